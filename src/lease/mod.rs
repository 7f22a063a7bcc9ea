//! Leases: who may remember what of a file, and how that right is taken back.
//!
//! Every file has one home node, and its server decides the order of everything. A client may remember
//! what an answer said for as long as it holds the lease that came with the answer. A change waits until
//! no other session holds a lease on what it changes: first recall, then apply, then reply; so nobody
//! can see the old state after somebody saw the new one.
//!
//! [`Grantor`] is the server's half, [`Holder`] the client's; both are machines without I/O, which take
//! time as an argument ([`crate::clock::since_boot`]). What is to be remembered, they do not know: leases
//! are kept by inode number, which is one for a file whatever way it is reached.
//!
//! The rules that make it hold, each of which a checker fails without (`tests/lease`):
//! 1. From the moment a change is announced until it is done, nothing is granted on what it touches.
//! 2. A change is not admitted while another session holds a lease on what it touches.
//! 3. An answer grants only what no change touched between the beginning of its reading and its end.
//! 4. What a client asked for before a recall (or a change of its own) it does not remember, even if the
//!    answer comes after it.
//! 5. A client counts its term from the moment it sent the request that was answered; the server from
//!    the moment it received it, which is later. So the client always stops first.
//! 6. A client whose term was over, for however short a time, has forgotten everything.
//!
//! Not here: what an operation reads and changes (`mfsd`), what is remembered (`mfs-fuse`), messages
//! (`wire`).

mod grantor;
mod holder;

pub use grantor::{Action, ChangeId, Event, Grace, Grantor, Reading, Terms, Touch};
pub use holder::{Holder, Stamp};
