//! The only door to locks. They do not poison: a panic is caught where it cannot have left a state half
//! changed, or ends the process.

pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
