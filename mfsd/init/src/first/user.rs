//! The user of a job: all that a process must change to be theirs and nobody else's.

use mfs_init::Setup;
use rustix::fs::{Gid, Uid};
use rustix::thread as own;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Makes this process the user's, without anything that the daemon may do beyond.
pub(super) fn become_user(setup: &Setup) -> rustix::io::Result<()> {
    let groups: Vec<_> = setup.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (user, group) = (Uid::from_raw(setup.uid), Gid::from_raw(setup.gid));
    own::set_thread_groups(&groups)?;
    own::set_thread_res_gid(group, group, group)?;
    own::set_thread_res_uid(user, user, user)?;
    own::clear_ambient_capability_set()?;
    if !user.is_root() {
        // The change of user has emptied all but the inheritable set, unless the daemon was told to keep
        // some (securebits); nothing is left to that.
        let none = CapabilitySet::empty();
        let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
        own::set_capabilities(None, none)?;
    }
    Ok(())
}
