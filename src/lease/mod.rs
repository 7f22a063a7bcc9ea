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
//! The rules that make it hold. For each there is a world in `tests/lease` that breaks it, and in which
//! the checker finds an old value, or a change that is never made:
//! 1. From the moment a change is announced until it is done, nothing is granted on what it touches.
//! 2. A change is not admitted while another session holds a lease on what it touches, nor while its own
//!    session holds one on what only the server knows that it touches (the file that a name meant).
//! 3. An answer grants only what nobody changed between the beginning of its reading and its end; changes
//!    by local processes are taken note of before the end.
//! 4. What a client asked for before a recall it does not remember, even if the answer comes after it.
//! 5. What a client changes itself it neither uses nor remembers from before it asks for the change until
//!    that is answered: others may have seen the change by then.
//! 6. A return counts only for the recall that it answers. One that comes late, or twice, would take what
//!    was granted after it, and so does one of the client's own motion: that is asked for first.
//! 7. A client counts its term from the moment it sent the request that was answered; the server from
//!    the moment it received it, which is later. So the client always stops first, and the server waits.
//! 8. A client whose term was over, for however short a time, has forgotten everything; so has one whose
//!    control stream broke, until the welcome over the next. What it asked for before, it does not
//!    remember: an answer that is repeated over the new stream is as old as the first.
//! 9. A server that starts changes nothing that a client of the one before it may remember.
//!
//! A change that is under way waits for holders only, who always return or lapse; one that was not yet
//! admitted also waits for its turn in its directories, all of which it was announced in at once. Hence
//! there is no ring.
//!
//! The data of a file is another matter: what a kernel keeps of it is loaded and stored without asking this
//! client. Its rules stand at the head of `grantor/data.rs`.
//!
//! Not here: what an operation reads and changes (`mfsd`), what is remembered (`mfs-fuse`), messages
//! (`wire`).

mod grantor;
mod holder;
mod lengths;

pub use grantor::{Action, ChangeId, Event, Grace, Grantor, Held, Reading, RecallId, Terms, Touch};
pub use holder::{Ended, Holder, OwnChange, Stamp};
pub use lengths::{Growth, Lengths, Told};
