//! Which files run as programs and which are open for writing: never both.
//!
//! On one machine the kernel sees to that (ETXTBSY). Between nodes it is decided here, where all opens of a
//! file meet, those of the home's own direct mount included: it opens here, too, what it writes or runs. A
//! local process that writes beside all mounts keeps others from running the file; that others run it is not
//! known to the kernel, and does not keep a local process from writing it.
//!
//! Lock order: `Programs::uses` is a leaf.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::kernel_lease;
use crate::sync::Mutex;
use crate::types::{Errno, InodeNo};

/// The files that are written or run, by number.
#[derive(Debug, Default)]
pub(super) struct Programs {
    uses: Mutex<HashMap<InodeNo, Uses>>,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To change its data.
    Write,
    /// To run it.
    Run,
}

#[derive(Debug, Default)]
struct Uses {
    writers: usize,
    runners: usize,
}

/// One use of a file; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Using {
    programs: Arc<Programs>,
    file: InodeNo,
    purpose: Purpose,
}

// === impl Programs ===

impl Programs {
    /// Begins to use a file.
    ///
    /// # Errors
    /// ETXTBSY while it is used for the other purpose.
    pub(super) fn begin(self: &Arc<Self>, file: InodeNo, purpose: Purpose) -> Result<Using, Errno> {
        self.enter(file, purpose, true)
    }

    /// Goes on with a use that was permitted before.
    pub(super) fn again(self: &Arc<Self>, file: InodeNo, purpose: Purpose) -> Option<Using> {
        self.enter(file, purpose, false).ok()
    }

    fn enter(
        self: &Arc<Self>,
        file: InodeNo,
        purpose: Purpose,
        alone: bool,
    ) -> Result<Using, Errno> {
        let mut uses = self.uses.lock();
        let of_file = uses.entry(file).or_default();
        let (own, others) = match purpose {
            Purpose::Write => (&mut of_file.writers, of_file.runners),
            Purpose::Run => (&mut of_file.runners, of_file.writers),
        };
        if alone && others > 0 {
            return Err(Errno::TxtBsy);
        }
        *own += 1;
        Ok(Using { programs: Arc::clone(self), file, purpose })
    }
}

// === impl Using ===

impl Using {
    /// Refuses to run what a local process writes beside all mounts, where the file system can tell.
    ///
    /// # Errors
    /// ETXTBSY.
    pub(super) fn refuse_if_written_beside(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        match self.purpose {
            Purpose::Run if kernel_lease::is_open_for_writing(file).unwrap_or(false) => {
                Err(Errno::TxtBsy)
            }
            Purpose::Run | Purpose::Write => Ok(()),
        }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut uses = self.programs.uses.lock();
        let Some(of_file) = uses.get_mut(&self.file) else { return };
        match self.purpose {
            Purpose::Write => of_file.writers -= 1,
            Purpose::Run => of_file.runners -= 1,
        }
        if (of_file.writers, of_file.runners) == (0, 0) {
            uses.remove(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_what_runs_and_nothing_is_left_behind() {
        let programs = Arc::new(Programs::default());
        let file = InodeNo::FIRST;
        let runs = programs.begin(file, Purpose::Run).unwrap();
        let runs_twice = programs.begin(file, Purpose::Run).unwrap();
        drop(runs);
        assert_eq!(programs.begin(file, Purpose::Write).err(), Some(Errno::TxtBsy));
        let reclaimed = programs.again(file, Purpose::Write).unwrap();
        drop(runs_twice);
        assert_eq!(programs.begin(file, Purpose::Run).err(), Some(Errno::TxtBsy));
        drop(reclaimed);
        assert!(programs.uses.lock().is_empty());
    }
}
