//! Power cuts and pulled cables.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use mfs_tests::Setup;

#[test]
fn a_power_cut_ends_every_process_and_keeps_the_disk() {
    let lab = Setup::nodes(2).bare().up();
    let node = lab.node(2);
    node.run("echo kept >/root/kept; echo kept >/data/kept; echo lost >/run/lost");
    let mut command = node.command("sleep");
    let mut sleeper = command.arg("4713").stdout(Stdio::null()).spawn().unwrap();
    node.kill();
    assert_eq!(sleeper.wait().unwrap().signal(), Some(9));
    assert_eq!(lab.describe()["nodes"][1]["state"], "off");
    let refused = node.refused("true");
    assert!(refused.contains("n2 is off: mfs lab start"), "{refused}");
    node.start();
    assert_eq!(node.run("cat /root/kept /data/kept; ls /run/lost 2>&1 | wc -l"), "kept\nkept\n1");
    let refusal = lab.node(1).refused("bash -c 'exec 3<>/dev/tcp/n2/7'");
    assert!(refusal.contains("refused"), "the link works again: {refusal}");
}

#[test]
fn a_partition_drops_packets_in_silence_until_it_is_healed() {
    let lab = Setup::nodes(2).bare().up();
    lab.node(2).partition();
    assert_eq!(lab.describe()["nodes"][1]["state"], "partitioned");
    let answer = lab.node(1).refused("timeout 1 bash -c 'exec 3<>/dev/tcp/n2/7'");
    assert!(!answer.contains("refused"), "an answer came through: {answer}");
    lab.node(2).run("hostname");
    lab.node(2).heal();
    assert_eq!(lab.describe()["nodes"][1]["state"], "up");
    mfs_tests::eventually("the link works again", std::time::Duration::from_secs(20), || {
        lab.node(1).refused("timeout 5 bash -c 'exec 3<>/dev/tcp/n2/7'").contains("refused")
    });
}

#[test]
fn a_node_that_is_off_cannot_be_killed_again() {
    let lab = Setup::nodes(1).bare().up();
    lab.node(1).kill();
    lab.node(1).start();
    lab.node(1).start();
    assert_eq!(lab.node(1).run("hostname"), "n1");
}
