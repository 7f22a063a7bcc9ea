//! Leases: the product's own grantor and holders in worlds without I/O, in every order of events.
//!
//! `exhaustive` goes through all orders of small worlds, `simulation` through random ones of large worlds,
//! and `mutants` shows that both would find it if a rule of `mfs::lease` were broken. `data` does all of it
//! for data leases.
//!
//! `LEASE_SEED=n` runs the simulation with another seed than 1, `LEASE_ROUNDS=n` so many seeds from there.

mod bag;
mod client;
mod data;
mod exhaustive;
mod mutants;
mod server;
mod simulation;
mod tree;
mod world;
