//! Acting as the caller: a thread takes on a file-system identity and gives it up again.
//!
//! Uses the file-system ids and not the effective ones, so that the caller's own processes may
//! neither signal nor trace the daemon meanwhile, and the raw per-thread system calls, since the C
//! library would change the whole process. Everything here concerns the calling thread only.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use rustix::fs::Mode;
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::sys;
use crate::types::{Caller, Capabilities, Errno};

/// Restores the thread's own identity when dropped, and ends the process if it cannot: a thread that
/// went on with a stranger's identity would answer the next caller with it.
///
/// Not `Send`: credentials belong to a thread, so the compiler refuses to carry this across an
/// `.await`.
#[must_use = "the identity is given up when this is dropped"]
#[derive(Debug)]
pub(super) struct Impersonation {
    own: Rc<Own>,
    changed: Changed,
    _not_send: PhantomData<*const ()>,
}

/// What has been changed so far, and so must be undone.
#[derive(Debug, Default)]
struct Changed {
    groups: bool,
    gid: bool,
    uid: bool,
    capabilities: bool,
    umask: Option<Mode>,
}

/// The identity that the thread has when it acts for nobody.
#[derive(Debug)]
struct Own {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
    capabilities: CapabilitySets,
}

thread_local! {
    static OWN: RefCell<Option<Rc<Own>>> = const { RefCell::new(None) };
    static ACTING: Cell<bool> = const { Cell::new(false) };
}

/// No id: setfsuid(2) refuses it, and so answers the present one.
const NO_ID: u32 = u32::MAX;

// === impl Impersonation ===

impl Impersonation {
    /// Takes on the caller's file-system user, group, supplementary groups, umask, and of its own
    /// capabilities exactly those that the caller has.
    ///
    /// # Errors
    /// EPERM where the process may not take on that identity, EINVAL for an id that cannot be. The
    /// thread is then as it was before.
    pub(super) fn begin(caller: &Caller) -> Result<Self, Errno> {
        if caller.uid == NO_ID || caller.gid == NO_ID || caller.groups.len() > Caller::MAX_GROUPS {
            return Err(Errno::Inval);
        }
        let own = Own::of_this_thread()?;
        if ACTING.get() {
            // Two identities at once would leave the thread with its own while the first is in use.
            tracing::error!("a thread that acts for one caller was asked to act for another");
            return Err(Errno::Io);
        }
        ACTING.set(true);
        // The guard exists before the first change, so that a failure half way undoes what was done.
        let mut guard = Self { own, changed: Changed::default(), _not_send: PhantomData };
        guard.take_groups(caller)?;
        guard.take_gid(caller.gid)?; // before the uid: without it the gid may not be changed any more
        guard.take_uid(caller.uid)?;
        guard.keep_capabilities(caller.capabilities)?;
        guard.take_umask(caller.umask);
        Ok(guard)
    }

    fn take_groups(&mut self, caller: &Caller) -> Result<(), Errno> {
        let same = self.own.groups.len() == caller.groups.len()
            && self.own.groups.iter().zip(&caller.groups).all(|(own, new)| own.as_raw() == *new);
        if same {
            return Ok(());
        }
        if caller.groups.contains(&NO_ID) {
            return Err(Errno::Inval);
        }
        let groups: Vec<Gid> = caller.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        // One call that changes all or nothing, unlike those below: noted when it has.
        rustix::thread::set_thread_groups(&groups)?;
        self.changed.groups = true;
        Ok(())
    }

    fn take_gid(&mut self, gid: u32) -> Result<(), Errno> {
        if gid == self.own.gid {
            return Ok(());
        }
        self.changed.gid = true;
        sys::set_fsgid(gid);
        if sys::set_fsgid(NO_ID) == gid { Ok(()) } else { Err(Errno::Perm) }
    }

    fn take_uid(&mut self, uid: u32) -> Result<(), Errno> {
        if uid == self.own.uid {
            return Ok(());
        }
        self.changed.uid = true;
        sys::set_fsuid(uid);
        if sys::set_fsuid(NO_ID) == uid { Ok(()) } else { Err(Errno::Perm) }
    }

    /// The kernel drops only some capabilities with the file-system uid: CAP_SYS_RESOURCE stays, and
    /// with it quotas and reserved blocks would be ignored. So the effective set is set, not trusted.
    fn keep_capabilities(&mut self, capabilities: Capabilities) -> Result<(), Errno> {
        let own = &self.own.capabilities;
        let effective = kernel_set(capabilities) & own.permitted;
        if !self.changed.uid && effective == own.effective {
            return Ok(());
        }
        rustix::thread::set_capabilities(None, CapabilitySets { effective, ..*own })?;
        self.changed.capabilities = true;
        Ok(())
    }

    fn take_umask(&mut self, umask: u32) {
        self.changed.umask = Some(rustix::process::umask(Mode::from_bits_truncate(umask & 0o777)));
    }

    /// Undoes what was changed; the capabilities come first, since without them nothing else may be
    /// changed, and again last, since the kernel raises some with a file-system uid of 0.
    fn give_up(&mut self) -> Result<(), Errno> {
        let own = &self.own;
        if let Some(umask) = self.changed.umask.take() {
            rustix::process::umask(umask);
        }
        let uid_changed = self.changed.uid;
        if self.changed.capabilities || uid_changed {
            rustix::thread::set_capabilities(None, own.capabilities)?;
        }
        if self.changed.gid {
            sys::set_fsgid(own.gid);
        }
        if self.changed.groups {
            rustix::thread::set_thread_groups(&own.groups)?;
        }
        if uid_changed {
            sys::set_fsuid(own.uid);
            rustix::thread::set_capabilities(None, own.capabilities)?;
        }
        let restored = sys::set_fsuid(NO_ID) == own.uid && sys::set_fsgid(NO_ID) == own.gid;
        if restored { Ok(()) } else { Err(Errno::Perm) }
    }
}

impl Drop for Impersonation {
    fn drop(&mut self) {
        if let Err(error) = self.give_up() {
            tracing::error!("cannot give up a caller's identity: {error}; ending the process");
            std::process::abort();
        }
        ACTING.set(false);
    }
}

// === impl Own ===

impl Own {
    /// The thread's own identity; read once, when the thread first acts for somebody. From then on it
    /// has a umask of its own.
    fn of_this_thread() -> Result<Rc<Self>, Errno> {
        OWN.with_borrow_mut(|own| {
            if let Some(own) = own {
                return Ok(Rc::clone(own));
            }
            sys::unshare_fs()?;
            let read = Rc::new(Self {
                uid: sys::set_fsuid(NO_ID),
                gid: sys::set_fsgid(NO_ID),
                groups: rustix::process::getgroups()?,
                capabilities: rustix::thread::capabilities(None)?,
            });
            *own = Some(Rc::clone(&read));
            Ok(read)
        })
    }
}

/// Leaves the calling thread, for good, only the capabilities that serving files takes: those that a
/// caller may have, and those for taking on an identity. For the threads of a pool.
///
/// # Errors
/// Those of capset(2); the thread is then unchanged.
pub(super) fn keep_only_file_capabilities() -> Result<(), Errno> {
    let own = rustix::thread::capabilities(None)?;
    let permitted = own.permitted
        & (kernel_set(Capabilities::all()) | CapabilitySet::SETUID | CapabilitySet::SETGID);
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    OWN.with_borrow_mut(|own| *own = None);
    Ok(())
}

/// The kernel's set for the protocol's.
fn kernel_set(capabilities: Capabilities) -> CapabilitySet {
    [
        (Capabilities::CHOWN, CapabilitySet::CHOWN),
        (Capabilities::DAC_OVERRIDE, CapabilitySet::DAC_OVERRIDE),
        (Capabilities::DAC_READ_SEARCH, CapabilitySet::DAC_READ_SEARCH),
        (Capabilities::FOWNER, CapabilitySet::FOWNER),
        (Capabilities::FSETID, CapabilitySet::FSETID),
        (Capabilities::SETFCAP, CapabilitySet::SETFCAP),
        (Capabilities::MKNOD, CapabilitySet::MKNOD),
        (Capabilities::SYS_ADMIN, CapabilitySet::SYS_ADMIN),
        (Capabilities::SYS_RESOURCE, CapabilitySet::SYS_RESOURCE),
        (Capabilities::LINUX_IMMUTABLE, CapabilitySet::LINUX_IMMUTABLE),
        (Capabilities::LEASE, CapabilitySet::LEASE),
    ]
    .into_iter()
    .filter(|(ours, _)| capabilities.contains(*ours))
    .fold(CapabilitySet::empty(), |set, (_, kernel)| set | kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn needs_root() {
        assert!(rustix::process::geteuid().is_root(), "needs root: run it by scripts/test");
    }

    fn effective() -> CapabilitySet {
        rustix::thread::capabilities(None).unwrap().effective
    }

    #[test]
    fn with_a_foreign_uid_no_capability_is_effective() {
        needs_root();
        let before = effective();
        {
            let _as_caller = Impersonation::begin(&Caller::user(1001, 1001, &[7])).unwrap();
            assert_eq!(effective(), CapabilitySet::empty());
            assert_eq!((sys::set_fsuid(NO_ID), sys::set_fsgid(NO_ID)), (1001, 1001));
            let groups = rustix::process::getgroups().unwrap();
            assert_eq!(groups, [Gid::from_raw(7)]);
        }
        assert_eq!(effective(), before);
        assert_eq!((sys::set_fsuid(NO_ID), sys::set_fsgid(NO_ID)), (0, 0));
    }

    #[test]
    fn root_has_only_what_it_has_at_home() {
        needs_root();
        let caller = Caller { capabilities: Capabilities::CHOWN, ..Caller::root() };
        let _as_caller = Impersonation::begin(&caller).unwrap();
        assert_eq!(effective(), CapabilitySet::CHOWN);
    }

    #[test]
    fn a_panic_gives_the_identity_up() {
        needs_root();
        let before = effective();
        let panicked = std::panic::catch_unwind(|| {
            let _as_caller = Impersonation::begin(&Caller::user(1001, 1001, &[])).unwrap();
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!((sys::set_fsuid(NO_ID), effective()), (0, before));
        assert!(Impersonation::begin(&Caller::root()).is_ok());
    }

    #[test]
    fn nobody_acts_for_two_at_once() {
        needs_root();
        let _as_one = Impersonation::begin(&Caller::user(1001, 1001, &[])).unwrap();
        assert_eq!(Impersonation::begin(&Caller::user(1002, 1002, &[])).err(), Some(Errno::Io));
        assert_eq!(sys::set_fsuid(NO_ID), 1001);
    }

    #[test]
    fn a_thread_of_the_pool_can_do_nothing_but_serve_files() {
        needs_root();
        std::thread::spawn(|| {
            keep_only_file_capabilities().unwrap();
            let sets = rustix::thread::capabilities(None).unwrap();
            assert!(sets.permitted.contains(CapabilitySet::DAC_READ_SEARCH));
            for foreign in
                [CapabilitySet::KILL, CapabilitySet::SYS_PTRACE, CapabilitySet::NET_ADMIN]
            {
                assert!(!sets.permitted.intersects(foreign));
            }
            drop(Impersonation::begin(&Caller::user(1001, 1001, &[])).unwrap());
            assert_eq!(effective(), sets.effective);
        })
        .join()
        .unwrap();
    }
}
