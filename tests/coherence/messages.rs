//! Network messages: what a mount sends to nodes while something is done, by its own counters, and what
//! must not send any: looking again at what nobody has changed.

use std::collections::BTreeMap;

use mfs_tests::Node;
use serde_json::Value;

use super::stage::{Two, cases};

cases! {
    REMOTE:
        a_write_is_counted,
        an_append_of_a_mebibyte_is_one_message,
        a_second_stat_sends_no_message,
        a_second_look_for_what_is_missing_sends_no_message,
        a_second_ls_sends_no_message,
        a_second_ls_over_mounts_asks_for_what_cannot_be_remembered,
        a_second_cat_sends_no_message,
        a_second_git_status_sends_no_message,
        what_is_open_very_often_its_home_knows,
        a_second_readlink_sends_no_message,
        a_second_getfattr_sends_no_message;
}

/// A mount of its own, so that what other programs of the node do is not counted.
#[derive(Debug)]
pub(super) struct Quiet<'s> {
    node: Node<'s>,
    mount: String,
    directory: String,
}

// === impl Quiet ===

impl<'s> Quiet<'s> {
    /// Mounts the cluster anew on the node of `a`.
    pub(super) fn mount(two: &Two<'s>) -> Self {
        let node = two.node_of_a();
        let mount = "/mfs-quiet".to_owned();
        node.run(&format!("mkdir -p {mount} && mount -t mfs mfs {mount}"));
        let directory = two.through(&mount).display().to_string();
        // What was made for the case asked for the leases on the directories above it, and those that are
        // asked for often are not leased for a second (src/lease/grantor).
        node.run("sleep 1.2");
        Self { node, mount, directory }
    }

    /// Runs shell in the case's directory through the mount.
    pub(super) fn run(&self, line: &str) -> String {
        self.node.run(&format!("cd {} && {line}", self.directory))
    }

    /// Does something; how many messages of each kind the mount sent for it.
    pub(super) fn sent_by(&self, act: impl FnOnce()) -> BTreeMap<String, u64> {
        let before = self.sent();
        act();
        let mut sent = self.sent();
        for (operation, count) in &mut sent {
            *count -= before.get(operation).copied().unwrap_or(0);
        }
        sent.retain(|_, count| *count > 0);
        sent
    }

    /// All that the mount has sent, by operation.
    fn sent(&self) -> BTreeMap<String, u64> {
        let json = self.node.run("mfs stats --json");
        let figures: Value = serde_json::from_str(&json).expect("it prints JSON");
        let mounts = figures["mounts"].as_array().expect("mounts are a list");
        let own = mounts.iter().find(|mount| mount["mountpoint"] == self.mount.as_str());
        let own = &own.expect("the mount is there")["metrics"]["mfs_client_requests_sent_total"];
        let counts = own.as_object().expect("it counts by operation");
        let count = |value: &Value| value.as_u64().expect("a count");
        counts.iter().map(|(operation, value)| (operation.clone(), count(value))).collect()
    }

    /// Runs a line twice; the second time must send nothing.
    #[track_caller]
    fn silent_again(&self, line: &str) {
        let first = self.run(line);
        let mut second = String::new();
        let sent = self.sent_by(|| second = self.run(line));
        assert_eq!(second, first);
        assert!(sent.is_empty(), "the second `{line}` sent {sent:?}");
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let ran = self.node.try_run(&format!("umount {}", self.mount));
        if !ran.status.success() && !std::thread::panicking() {
            panic!("{} cannot be unmounted: {}", self.mount, ran.stderr);
        }
    }
}

/// The counters count: else all others of this file would say nothing.
fn a_write_is_counted(two: &Two<'_>) {
    two.given("f", b"text");
    let quiet = Quiet::mount(two);
    quiet.run("cat f");
    let sent = quiet.sent_by(|| drop(quiet.run("echo more > f && sync f")));
    assert!(sent.values().sum::<u64>() > 0, "writing sent {sent:?}");
}

/// Two would be two appends, and another's could come between. The program's buffer begins inside a page.
fn an_append_of_a_mebibyte_is_one_message(two: &Two<'_>) {
    two.given("f", b"");
    let quiet = Quiet::mount(two);
    let program = "import os, sys; f = os.open('f', os.O_WRONLY | os.O_APPEND); \
        assert os.write(f, memoryview(bytes(1048577 + 64))[64:1048640]) == 1048576";
    let sent = quiet.sent_by(|| drop(quiet.run(&format!("python3 -c \"{program}\""))));
    assert_eq!(sent.get("Write"), Some(&1), "{sent:?}");
}

fn a_second_stat_sends_no_message(two: &Two<'_>) {
    two.given("f", b"text");
    Quiet::mount(two).silent_again("stat -c '%s %y' f");
}

fn a_second_look_for_what_is_missing_sends_no_message(two: &Two<'_>) {
    Quiet::mount(two).silent_again("test ! -e missing && test ! -e missing/below");
}

fn a_second_ls_sends_no_message(two: &Two<'_>) {
    for number in 0..30 {
        two.given(&format!("f-{number}"), b"text");
    }
    Quiet::mount(two).silent_again("ls -l");
}

/// One entry leads to another file system, one to the kernel's own, which is not watched.
fn a_second_ls_over_mounts_asks_for_what_cannot_be_remembered(two: &Two<'_>) {
    for number in 0..30 {
        two.given(&format!("f-{number}"), b"text");
    }
    let quiet = Quiet::mount(two);
    let (home, directory) = two.home();
    let there = |line: &str| home.run(&format!("cd {} && {line}", directory.display()));
    there("mkdir disk kernel && mount -t tmpfs disk disk && mount -t proc kernel kernel");
    let first = quiet.run("ls -l");
    let mut second = String::new();
    let sent = quiet.sent_by(|| second = quiet.run("ls -l"));
    // mfsd holds on to a mount for some seconds after its last use.
    there("umount -l disk kernel");
    assert_eq!(second, first);
    // Each call of ls for `kernel` looks its name up again; the 31 others cost nothing.
    assert!(sent.values().sum::<u64>() < 16, "the second ls sent {sent:?}");
}

fn a_second_cat_sends_no_message(two: &Two<'_>) {
    two.given("f", &vec![b'x'; 300_000]);
    Quiet::mount(two).silent_again("cat f | cksum");
}

fn a_second_git_status_sends_no_message(two: &Two<'_>) {
    let git = "git -c user.name=x -c user.email=x@example.org -c gc.auto=0";
    two.a.shell("git init -q . && mkdir d && for n in 1 2 3 4 5; do echo $n > d/$n; done");
    two.a.shell(&format!("git add d && {git} commit -q -m one"));
    // An index that is to be written anew is a change: what is asked for is looking.
    Quiet::mount(two).silent_again("git --no-optional-locks status --porcelain");
}

/// Who wants to write it waits until its home knows of all opens.
fn what_is_open_very_often_its_home_knows(two: &Two<'_>) {
    two.given("f", b"text");
    let quiet = Quiet::mount(two);
    quiet.run("cat f");
    let program = "opens = [open('f') for _ in range(300)]";
    let sent = quiet.sent_by(|| drop(quiet.run(&format!("python3 -c \"{program}\""))));
    let opens = sent.get("Open").copied().unwrap_or(0);
    assert!((1..=60).contains(&opens), "{opens} of 300 opens were a message");
}

fn a_second_readlink_sends_no_message(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().symlink("f", "link").unwrap();
    Quiet::mount(two).silent_again("readlink link");
}

fn a_second_getfattr_sends_no_message(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().set_attribute("f", "user.note", b"x").unwrap();
    Quiet::mount(two).silent_again("getfattr --only-values -n user.note f");
}
