//! What mfsd tells the service manager (sd_notify(3)): ready, alive, stopping.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use mfs_tests::binary;

use super::daemon::PATIENCE;

#[test]
fn the_service_manager_is_told_that_it_is_ready_alive_and_stopping() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    // The watchdog is for the process of this number alone.
    let mut mfsd = Command::new("sh")
        .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" --state \"$1/state\" --runtime \"$1/run\""])
        .args([binary("mfsd").as_path(), place.path()])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wait_for = |word: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let length = told.recv(&mut buffer).expect("mfsd says something in time");
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if said.lines().any(|line| line == word) {
                return said;
            }
        }
    };
    assert!(wait_for("READY=1").contains("STATUS=in no cluster"));
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    let pid = rustix::process::Pid::from_child(&mfsd);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for("STOPPING=1");
    assert!(mfsd.wait().unwrap().success());
}
