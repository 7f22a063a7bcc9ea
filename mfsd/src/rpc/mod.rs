//! The server of the file service (proto/mfs/v1/file.proto, docs/PROTOCOL.md).
//!
//! A stream is read by one task; each request becomes a job on a thread that may block, and its answer
//! goes from there to the transport. Sessions own open files, locks and the replies of once-only requests;
//! the tree itself is `mfs::export`. Not here: who a peer is (`crate::peer`), and what an operation does.
//!
//! Lock order; none of these but the first is held while the tree executes something:
//!   Once::appends, one for each file                     (while something is appended)
//!   SessionTable::inner
//!     Session::replies, Session::opens, Session::waits   (never two at once)
//!       Run::state
//!   Lane::inner, Dispatch::sweeping                      (leaves)
//!   Intents::inner                                       (a leaf)
//!   Settling::inner                                      (a leaf)
//!   Ledger::names                                        (a leaf; files are written under it)
//!   Dispatch::parked                                     (a leaf)
//!   LockWaiters::queues                                  (never with any other)
//!   Dispatch::parting                                    (while a conflict copy is written)
//!   Writers' turns, one for each file                    (while what was stored into pages is written)
//!     Writers::inner                                     (a leaf)
//!   Coherence::noticing                                  (what was admitted may run under it)
//!     Coherence::inner                                   (a leaf)

mod coherence;
mod dispatch;
mod effects;
mod export_tree;
#[cfg(test)]
mod fake;
mod files;
mod holdings;
mod instance;
mod intents;
mod kept;
mod lane;
mod leasing;
mod ledger;
mod limits;
mod lock_waiters;
mod lock_waits;
mod moving_locks;
mod neighbours;
mod once;
mod open_table;
mod opens_of;
mod parked;
#[cfg(test)]
mod peers_tests;
mod reply_cache;
mod run;
mod session;
mod session_table;
mod settling;
mod sink;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod write_back;
mod writers;

pub(crate) use export_tree::ExportTree;
pub(crate) use files::{FilesService, FilesSettings};
pub(crate) use holdings::{Names, names_of};
pub(crate) use instance::Instance;
pub(crate) use limits::Limits;
pub(crate) use moving_locks::LONGEST as LONGEST_PARKING;
