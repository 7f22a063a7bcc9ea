//! Open files that the other removes, renames or replaces: they stay what they were, for both.

use libc::{O_CREAT, O_EXCL, O_RDONLY, O_RDWR};
use rustix::io::Errno;

use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_removed_file_is_read_and_written_on_by_both,
        a_removed_file_keeps_its_attributes_true,
        a_replaced_file_stays_what_it_was,
        a_renamed_file_is_written_on_under_its_new_name,
        a_file_that_lost_its_permissions_stays_open,
        many_removed_files_stay_apart,
        a_removed_file_can_be_truncated,
        a_removed_program_file_can_be_replaced,
        a_name_that_is_replaced_again_and_again_is_always_there;
}

fn a_removed_file_is_read_and_written_on_by_both(two: &Two<'_>) {
    two.given("f", b"text");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDWR).unwrap();
    two.a.unlink("f").unwrap();
    assert_eq!(two.b.all(theirs).unwrap(), b"text");
    two.b.pwrite(theirs, b"more text", 0).unwrap();
    assert_eq!(two.a.all(ours).unwrap(), b"more text");
    two.a.pwrite(ours, b"last", 0).unwrap();
    two.a.close(ours).unwrap();
    assert_eq!(two.b.all(theirs).unwrap(), b"last text");
    two.b.fsync(theirs).unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.stat("f").map(drop));
}

fn a_removed_file_keeps_its_attributes_true(two: &Two<'_>) {
    two.given("f", b"text");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDONLY).unwrap();
    two.b.sees(1, |b| b.fstat(theirs).unwrap().links);
    two.a.unlink("f").unwrap();
    two.b.sees(0, |b| b.fstat(theirs).unwrap().links);
    two.a.pwrite(ours, b"x", 99).unwrap();
    two.b.sees(100, |b| b.fstat(theirs).unwrap().size);
}

fn a_replaced_file_stays_what_it_was(two: &Two<'_>) {
    two.given("f", b"old");
    two.given("new", b"new");
    let old = two.b.open("f", O_RDWR).unwrap();
    assert_eq!(two.b.all(old).unwrap(), b"old");
    two.a.rename("new", "f").unwrap();
    assert_eq!(two.b.all(old).unwrap(), b"old");
    two.b.pwrite(old, b"OLD", 0).unwrap();
    assert_eq!(two.b.all(old).unwrap(), b"OLD");
    assert_eq!(two.a.text("f").unwrap(), "new");
    two.b.sees(Ok("new".to_owned()), |b| b.text("f"));
    two.b.sees(0, |b| b.fstat(old).unwrap().links);
}

fn a_renamed_file_is_written_on_under_its_new_name(two: &Two<'_>) {
    two.given("log", b"one ");
    two.maker().mkdir("old").unwrap();
    let fd = two.b.open("log", O_RDWR).unwrap();
    two.a.rename("log", "old/log.1").unwrap();
    two.a.put("log", b"new").unwrap();
    two.b.pwrite(fd, b"two", 4).unwrap();
    assert_eq!(two.a.text("old/log.1").unwrap(), "one two");
    assert_eq!(two.a.text("log").unwrap(), "new");
    two.b.sees(Ok("one two".to_owned()), |b| b.text("old/log.1"));
}

fn a_file_that_lost_its_permissions_stays_open(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().chmod("f", 0o666).unwrap();
    two.b.as_user(1000);
    let fd = two.b.open("f", O_RDWR).unwrap();
    two.a.chmod("f", 0).unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.open("f", O_RDONLY));
    assert_eq!(two.b.all(fd).unwrap(), b"text");
    two.b.pwrite(fd, b"TEXT", 0).unwrap();
    assert_eq!(two.a.text("f").unwrap(), "TEXT");
}

fn many_removed_files_stay_apart(two: &Two<'_>) {
    let fds: Vec<_> = (0..10)
        .map(|number| {
            let text = format!("file {number}");
            two.given("f", text.as_bytes());
            let fd = two.b.open("f", O_RDONLY).unwrap();
            two.maker().unlink("f").unwrap();
            (fd, text)
        })
        .collect();
    two.a.put("f", b"the last").unwrap();
    for (fd, text) in fds {
        assert_eq!(two.b.all(fd).unwrap(), text.as_bytes());
    }
}

fn a_removed_file_can_be_truncated(two: &Two<'_>) {
    two.given("f", b"0123456789");
    let ours = two.a.open("f", O_RDWR).unwrap();
    let theirs = two.b.open("f", O_RDWR).unwrap();
    two.b.unlink("f").unwrap();
    two.a.ftruncate(ours, 3).unwrap();
    assert_eq!(two.b.all(theirs).unwrap(), b"012");
    two.b.ftruncate(theirs, 5).unwrap();
    assert_eq!(two.a.all(ours).unwrap(), b"012\0\0");
}

/// As installers do: the running program's file is removed, not written over.
fn a_removed_program_file_can_be_replaced(two: &Two<'_>) {
    two.given("program", b"#!/bin/sh\necho old\n");
    two.maker().chmod("program", 0o755).unwrap();
    let held = two.b.open("program", O_RDONLY).unwrap();
    assert_eq!(two.b.shell("./program"), "old");
    two.a.unlink("program").unwrap();
    let fd = two.a.open("program", O_RDWR | O_CREAT | O_EXCL).unwrap();
    two.a.write(fd, b"#!/bin/sh\necho new\n").unwrap();
    two.a.close(fd).unwrap();
    two.a.chmod("program", 0o755).unwrap();
    two.b.sees((0, "new".to_owned()), |b| b.try_shell("./program"));
    assert_eq!(two.b.all(held).unwrap(), b"#!/bin/sh\necho old\n");
}

fn a_name_that_is_replaced_again_and_again_is_always_there(two: &Two<'_>) {
    two.maker().put("f", b"text").unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("f"));
    let replace = "\
import os
while not os.path.exists('done'):
    for turn in range(20):
        with open('new', 'w') as new: new.write('text')
        os.rename('new', 'f')
";
    let use_it = "\
import os
failed = {}
def tried(what, call):
    try: call()
    except OSError as error: failed[(what, error.errno)] = failed.get((what, error.errno), 0) + 1
def read():
    with open('f') as f: assert f.read() == 'text'
for turn in range(50):
    tried('read', read)
    tried('stat', lambda: os.stat('f'))
    tried('open for writing', lambda: os.close(os.open('f', os.O_RDWR)))
    tried('chmod', lambda: os.chmod('f', 0o644))
open('done', 'w').close()
print(failed)
";
    for (name, text) in [("replace.py", replace), ("use.py", use_it)] {
        two.given(name, text.as_bytes());
    }
    let (_, failed) =
        two.together(|a| a.shell("python3 replace.py"), |b| b.shell("python3 use.py"));
    assert_eq!(failed, "{}");
}
