//! The files of the state directory: whoever else could read them keeps mfsd from starting.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::daemon::Daemon;

fn set_mode(path: impl AsRef<std::path::Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_remedy() {
    let (mut n1, _) = Daemon::found("n1", &[]);
    n1.stop();
    let cluster = n1.state().join("cluster");
    for entry in fs::read_dir(&cluster).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        for mode in [0o640, 0o604, 0o620] {
            set_mode(&path, mode);
            let said = n1.refuses_to_start();
            let remedy = format!("chmod 0600 {}", path.display());
            assert!(said.contains(&remedy), "{path:?} {mode:o}: {said}");
        }
        set_mode(&path, 0o600);
    }
    for directory in [n1.state(), cluster] {
        set_mode(&directory, 0o755);
        let said = n1.refuses_to_start();
        assert!(said.contains(&format!("chmod 0700 {}", directory.display())), "{said}");
        set_mode(&directory, 0o700);
    }
}

#[test]
fn a_key_with_a_second_name_is_refused() {
    let (mut n1, _) = Daemon::found("n1", &[]);
    n1.stop();
    let key = n1.state().join("cluster/node.key");
    fs::hard_link(&key, n1.state().join("second")).unwrap();
    assert!(n1.refuses_to_start().contains("hard links"));
    fs::remove_file(n1.state().join("second")).unwrap();
    // A symbolic link in its place is no key either.
    let aside = n1.state().join("aside");
    fs::rename(&key, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &key).unwrap();
    assert!(n1.refuses_to_start().contains("node.key"));
}

#[test]
fn damaged_files_are_named() {
    let (mut n1, _) = Daemon::found("n1", &[]);
    n1.stop();
    let cluster = n1.state().join("cluster");
    for name in
        ["node.key", "node.crt", "ca.crt", "ca.key", "node.json", "keys.json", "register.json"]
    {
        let path = cluster.join(name);
        let good = fs::read(&path).unwrap();
        for bad in [&b""[..], b"nonsense", &good[..good.len() / 2], b"\xff\xfe"] {
            fs::write(&path, bad).unwrap();
            let said = n1.refuses_to_start();
            assert!(said.contains("cluster/") && !said.contains("panicked"), "{name}: {said}");
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn an_interrupted_founding_leaves_nothing_that_matters() {
    let mut n1 = Daemon::start("n1");
    n1.restart(|state| {
        let half = state.join(".cluster-0011223344556677");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("node.key"), "half").unwrap();
    });
    assert_eq!(fs::read_dir(n1.state()).unwrap().count(), 0);
    n1.run(&["init"]);
}
