//! The local socket: everybody may look, only root may change.

use std::os::unix::process::CommandExt;

use super::daemon::Daemon;

/// A user who is nobody in particular.
const SOMEBODY: u32 = 4_242;

fn as_somebody(daemon: &Daemon, words: &[&str]) -> Result<String, String> {
    let mut command = daemon.command(words);
    let output = command.uid(SOMEBODY).gid(SOMEBODY).output().expect("mfs starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn an_ordinary_user_sees_and_changes_nothing() {
    let (n1, token) = Daemon::found("n1", &[]);
    assert!(as_somebody(&n1, &["nodes"]).unwrap().contains("n1"));
    assert!(as_somebody(&n1, &["stats"]).is_ok());
    for words in [
        &["token", "create"][..],
        &["token", "list"],
        &["token", "revoke", "00000000"],
        &["node", "remove", "n1"],
        &["node", "renew"],
        &["leave", "--force"],
        &["join", &token, "127.0.0.1"],
        &["init"],
    ] {
        let refused = as_somebody(&n1, words).expect_err("it was done");
        assert!(refused.contains("root"), "{words:?}: {refused}");
    }
    assert!(n1.run(&["nodes"]).contains("n1"));
}

#[test]
fn an_ordinary_user_gets_neither_keys_nor_files() {
    use mfs_proto::v1;
    let (n1, _) = Daemon::found("n1", &[]);
    let socket = n1.runtime().join("mfsd.sock");
    // The kernel notes who connects: this thread becomes somebody for that moment.
    let asked = std::thread::spawn(move || {
        rustix::thread::set_thread_res_gid(id(SOMEBODY), id(SOMEBODY), id(SOMEBODY)).unwrap();
        let uid = rustix::process::Uid::from_raw(SOMEBODY);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let endpoint = format!("unix://{}", socket.display());
            let endpoint = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
            let channel = endpoint.connect().await.unwrap();
            let mut local = v1::local_client::LocalClient::new(channel.clone());
            let state = local.watch_mount(v1::WatchMountRequest::default()).await.map(drop);
            let report = local.report(v1::ReportRequest::default()).await.map(drop);
            let mut files = v1::files_client::FilesClient::new(channel);
            let files = files.operate(tokio_stream::empty()).await.map(drop);
            [state, report, files].map(|refusal| refusal.unwrap_err().code())
        })
    });
    assert_eq!(asked.join().unwrap(), [tonic::Code::PermissionDenied; 3]);
}

fn id(raw: u32) -> rustix::process::Gid {
    rustix::process::Gid::from_raw(raw)
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let n1 = Daemon::start("n1");
    let mut second = std::process::Command::new(mfs_tests::binary("mfsd"));
    let second = second
        .arg("--state")
        .arg(n1.state().with_file_name("other"))
        .arg("--config")
        .arg(n1.state().with_file_name("mfsd.toml"))
        .arg("--runtime")
        .arg(n1.runtime())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("running already"), "{said}");
}
