//! Ends: of whole labs, of labs that were killed half way, of labs that belong to a process.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mfs_tests::{Machine, Setup, binary, eventually};

/// Labs of a state directory of their own, for ends that a [`mfs_tests::Cluster`] does not make.
struct Labs(tempfile::TempDir);

// === impl Labs ===

impl Labs {
    fn new() -> Self {
        // Not in /tmp, which may lie in memory.
        Self(tempfile::tempdir_in("/var/lib").expect("/var/lib is writable"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary("mfs"));
        command.args(["lab", "--state"]).arg(self.0.path()).args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("mfs starts")
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.0.path()).expect("the directory is there").next().is_none()
    }

    fn processes(&self) -> Vec<String> {
        let name = self.0.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        Machine::look().left_behind(&name)
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        self.run(&["down", "--name", "x"]);
    }
}

#[test]
fn a_lab_ends_once_and_says_so() {
    let labs = Labs::new();
    assert!(labs.run(&["up", "--bare", "--nodes", "1", "--name", "x"]).status.success());
    let again = labs.run(&["up", "--bare", "--name", "x"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("lab x is up already"));
    assert!(labs.run(&["down", "--name", "x"]).status.success());
    assert!(labs.is_empty());
    let again = labs.run(&["down", "--name", "x"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no lab x"));
    assert!(labs.is_empty(), "a refusal leaves nothing behind either");
}

#[test]
fn the_end_takes_processes_that_hold_on() {
    let labs = Labs::new();
    assert!(labs.run(&["up", "--bare", "--nodes", "2", "--name", "x"]).status.success());
    let hold = "trap '' TERM INT HUP; cd /data; echo ready; while :; do sleep 1; done";
    let exec = labs.command(&["exec", "--name", "x", "n1", "--", "sh", "-c", hold]).spawn();
    let mut exec: Child = exec.unwrap();
    let left = "setsid sleep 4714 </dev/null >/dev/null 2>&1 &";
    assert!(labs.run(&["exec", "--name", "x", "n2", "--", "sh", "-c", left]).status.success());
    assert!(labs.run(&["down", "--name", "x"]).status.success());
    assert!(!exec.wait().unwrap().success());
    assert!(labs.is_empty());
    assert_eq!(labs.processes(), Vec::<String>::new());
}

#[test]
fn a_lab_that_lost_its_keeper_can_be_ended_and_replaced() {
    let labs = Labs::new();
    for words in
        [&["down", "--name", "x"][..], &["up", "--bare", "--nodes", "1", "--name", "x"][..]]
    {
        assert!(labs.run(&["up", "--bare", "--nodes", "2", "--name", "x"]).status.success());
        let keeper = std::fs::read(labs.0.path().join("x/keeper")).unwrap();
        let keeper: serde_json::Value = serde_json::from_slice(&keeper).unwrap();
        let killed = Command::new("kill").args(["-KILL", &keeper["pid"].to_string()]).status();
        assert!(killed.unwrap().success());
        eventually("the lab is seen to be broken", Duration::from_secs(20), || {
            let listed = labs.run(&["ls", "--json"]).stdout;
            let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
            listed[0]["whole"] == false
        });
        let output = labs.run(words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        labs.run(&["down", "--name", "x"]);
        assert!(labs.is_empty());
        assert_eq!(labs.processes(), Vec::<String>::new());
    }
}

#[test]
fn a_lab_that_is_killed_while_it_comes_up_takes_itself_down() {
    let labs = Labs::new();
    let mut up = labs.command(&["up", "--bare", "--nodes", "40", "--name", "x"]).spawn().unwrap();
    eventually("some nodes are there", Duration::from_secs(60), || {
        labs.0.path().join("x/n3/init").exists()
    });
    up.kill().unwrap();
    let killed = !up.wait().unwrap().success();
    assert!(killed, "forty nodes came up faster than this process could end it");
    eventually("nothing is left", Duration::from_secs(60), || {
        labs.is_empty() && labs.processes().is_empty()
    });
}

#[test]
fn a_lab_can_belong_to_a_process() {
    let labs = Labs::new();
    let mut owner = Command::new("sleep").arg("1000").spawn().unwrap();
    let id = owner.id().to_string();
    let up = ["up", "--bare", "--nodes", "1", "--name", "x", "--with-pid", &id];
    assert!(labs.run(&up).status.success());
    assert!(labs.run(&["exec", "--name", "x", "n1", "true"]).status.success());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the lab has gone with it", Duration::from_secs(60), || labs.is_empty());
    let refused = labs.run(&up);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no process"));
}

#[test]
fn two_labs_live_side_by_side() {
    let (one, other) = (Setup::nodes(1).bare().up(), Setup::nodes(1).bare().up());
    one.node(1).run("echo one >/root/mark");
    other.node(1).refused("cat /root/mark");
    drop(one);
    assert_eq!(other.node(1).run("hostname"), "n1");
}

#[test]
fn two_that_come_up_under_one_name_do_not_mix() {
    let labs = Labs::new();
    let up = ["up", "--bare", "--nodes", "2", "--name", "x"];
    let both: Vec<Child> = (0..2).map(|_| labs.command(&up).spawn().unwrap()).collect();
    let ended = both.into_iter().map(|mut child| child.wait().unwrap().success());
    assert_eq!(ended.filter(|&success| success).count(), 1, "the second finds the first");
    assert!(labs.run(&["exec", "--name", "x", "n2", "true"]).status.success());
}
