//! Connections to peers: dialling, backoff, deadlines.
