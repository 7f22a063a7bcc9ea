//! A mount whose daemon stands still: its guardian has the kernel drop what other nodes may change.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use mfs_tests::{Setup, eventually};

const LONG: Duration = Duration::from_secs(60);

/// Maps a file for reading, loads its first byte, and once more when it is told to.
const LOADER: &str = "
import mmap, os, sys, time
there = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
print(chr(there[0]), flush=True)
while not os.path.exists('/tmp/look'): time.sleep(0.02)
print(chr(there[0]), flush=True)";

#[test]
fn a_mapping_of_a_frozen_mount_shows_nothing_old() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n3.run("echo old >/data/f");
    let mut loader = n1
        .command("python3")
        .args(["-c", LOADER, "/mfs/n3/data/f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(loader.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "o\n");
    n1.stop();
    // Returns when n1's lease is over.
    n2.run("printf new | dd of=/mfs/n3/data/f conv=notrunc status=none");
    n1.run("touch /tmp/look");
    eventually("it loads, or waits for the daemon to do so", LONG, || {
        n1.try_run("grep -q nanosleep /proc/$(pgrep -x -o python3)/wchan").status.code() == Some(1)
    });
    n1.start();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "n\n");
    assert!(loader.wait().unwrap().success());
}

#[test]
fn a_guardian_ends_with_its_mount_and_is_replaced_if_it_ends_alone() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let guardian = || n1.try_run("pgrep -x mfs-guardian").stdout;
    let first = guardian();
    assert_eq!(first.lines().count(), 1, "{first}");
    n1.run(&format!("kill -KILL {}", first.trim()));
    eventually("there is another", LONG, || ![String::new(), first.clone()].contains(&guardian()));
    n1.run("kill -KILL $(pgrep -x mount.mfs)");
    eventually("it is gone", LONG, || guardian().is_empty());
    assert!(n1.refused("ls /mfs").contains("not connected"));
    n1.run("umount /mfs && mount /mfs && cat /mfs/n2/etc/hostname");
    assert_eq!(guardian().lines().count(), 1);
    n1.run("umount /mfs");
    eventually("it is gone with the mount", LONG, || guardian().is_empty());
}
