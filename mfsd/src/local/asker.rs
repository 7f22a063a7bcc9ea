//! Who asks over the local socket, as a caller of the file service.

use std::fs;

use mfs::types::Caller;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

/// The identity that the kernel vouches for (SO_PEERCRED), with the groups of the process.
///
/// # Errors
/// That the kernel said nothing.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    let credentials = info.and_then(|info| info.peer_cred);
    let credentials =
        credentials.ok_or_else(|| Status::permission_denied("it is not known who asks"))?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let caller = match credentials.uid() {
        0 => Caller::root(),
        uid => {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            Caller::user(uid, credentials.gid(), &groups(&status, uid).unwrap_or_default())
        }
    };
    Ok(Caller { pid, ..caller })
}

/// The groups in a `/proc/PID/status` of a process that is this user's in every way: one that has begun
/// to run a set-uid program since it asked shows groups that are not its own.
fn groups(status: &str, uid: u32) -> Option<Vec<u32>> {
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().map(|word| word.parse().ok()).collect()
    };
    let own = numbers("Uid:")?.iter().all(|number| *number == uid);
    if own { numbers("Groups:") } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_taken_from_the_users_own_process_only() {
        let status = |uids: &str| format!("Name:\tmfs\nUid:\t{uids}\nGroups:\t4 1000 \n");
        assert_eq!(groups(&status("1000\t1000\t1000\t1000"), 1000), Some(vec![4, 1000]));
        assert_eq!(groups(&status("1000\t0\t0\t0"), 1000), None, "it runs su(1) by now");
        assert_eq!(groups("", 1000), None);
    }
}
