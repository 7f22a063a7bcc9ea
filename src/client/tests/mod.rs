//! The client over real gRPC streams in memory, in virtual time: deadlines, cuts, restarts, availability.

mod availability;
mod faults;
mod leases;
