//! Serves one local tree to a named caller. Knows no network, no sessions, no leases.
