//! open(2): the flags that matter, and what refuses.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};

use super::place::{Case, Place, errno};

pub(super) const CASES: &[(&str, Case)] = &[
    ("created_exclusively_once", created_exclusively_once),
    ("truncated", truncated),
    ("appends_from_both_sides_interleave", appends_from_both_sides_interleave),
    ("many_open_and_close_one_file", many_open_and_close_one_file),
    ("access_modes_hold", access_modes_hold),
    ("directories_and_links", directories_and_links),
    ("direct_and_synchronous", direct_and_synchronous),
    ("created_without_permission_to_write_it", created_without_permission_to_write_it),
    ("a_changed_file_is_read_anew", a_changed_file_is_read_anew),
    ("a_file_system_that_is_read_only", a_file_system_that_is_read_only),
];

fn created_exclusively_once(place: &Place<'_>) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options.open(place.at("f")).unwrap();
    assert_eq!(errno(options.open(place.at("f"))), libc::EEXIST);
    // Of many that try at once from both sides, one wins.
    for round in 0..20 {
        let name = format!("r{round}");
        let winners = std::thread::scope(|scope| {
            let tries: Vec<_> = [place.at(&name), place.at_home(&name), place.at(&name)]
                .into_iter()
                .map(|path| {
                    let options = options.clone();
                    scope.spawn(move || options.open(path).is_ok())
                })
                .collect();
            tries.into_iter().map(|t| usize::from(t.join().unwrap())).sum::<usize>()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

fn truncated(place: &Place<'_>) {
    fs::write(place.at_home("f"), "a long text").unwrap();
    let mut file = File::options().write(true).truncate(true).open(place.at("f")).unwrap();
    assert_eq!(fs::metadata(place.at_home("f")).unwrap().len(), 0);
    file.write_all(b"new").unwrap();
    drop(file);
    assert_eq!(fs::read(place.at_home("f")).unwrap(), b"new");
}

/// The server appends as one system call: no line of either side is lost or torn.
fn appends_from_both_sides_interleave(place: &Place<'_>) {
    const LINES: usize = 300;
    fs::write(place.at("f"), "").unwrap();
    let append = |path: std::path::PathBuf, who: u8| {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        for _ in 0..LINES {
            file.write_all(&[who; 40].into_iter().chain([b'\n']).collect::<Vec<_>>()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| append(place.at("f"), b'a'));
        scope.spawn(|| append(place.at_home("f"), b'b'));
    });
    let text = fs::read_to_string(place.at_home("f")).unwrap();
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    assert_eq!(text.lines().filter(|line| *line == a).count(), LINES);
    assert_eq!(text.lines().filter(|line| *line == b).count(), LINES);
    assert_eq!(text.lines().count(), 2 * LINES);
}

fn access_modes_hold(place: &Place<'_>) {
    fs::write(place.at("f"), "text").unwrap();
    let mut reader = File::open(place.at("f")).unwrap();
    assert_eq!(errno(reader.write(b"x")), libc::EBADF);
    let mut writer = OpenOptions::new().write(true).open(place.at("f")).unwrap();
    assert_eq!(errno(writer.read(&mut [0; 4])), libc::EBADF);
    let mut both = OpenOptions::new().read(true).write(true).open(place.at("f")).unwrap();
    both.write_all(b"T").unwrap();
    both.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    both.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Text");
}

fn directories_and_links(place: &Place<'_>) {
    fs::create_dir(place.at("d")).unwrap();
    symlink("nowhere", place.at("dangling")).unwrap();
    symlink("loop", place.at("loop")).unwrap();
    assert_eq!(errno(OpenOptions::new().write(true).open(place.at("d"))), libc::EISDIR);
    assert_eq!(errno(File::open(place.at("dangling"))), libc::ENOENT);
    assert_eq!(errno(File::open(place.at("loop"))), libc::ELOOP);
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    assert_eq!(errno(options.open(place.at("dangling"))), libc::ELOOP);
    options.custom_flags(libc::O_DIRECTORY);
    fs::write(place.at("f"), "").unwrap();
    assert_eq!(errno(options.open(place.at("f"))), libc::ENOTDIR);
    assert!(options.open(place.at("d")).is_ok());
}

fn direct_and_synchronous(place: &Place<'_>) {
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(libc::O_SYNC);
    options.open(place.at("f")).unwrap().write_all(b"now").unwrap();
    assert_eq!(fs::read(place.at_home("f")).unwrap(), b"now");
    place.run("dd if=/dev/zero of=d bs=65536 count=4 oflag=direct 2>&1 && dd if=d of=/dev/null bs=65536 iflag=direct 2>&1");
    assert_eq!(fs::metadata(place.at_home("d")).unwrap().len(), 4 * 65_536);
}

fn created_without_permission_to_write_it(place: &Place<'_>) {
    place.run("setpriv --reuid=bin --regid=bin --clear-groups python3 -c 'import os; fd = os.open(\"f\", os.O_CREAT | os.O_WRONLY, 0o400); os.write(fd, b\"mine\")'");
    assert_eq!(place.run_at_home("cat f; stat -c :%a:%U f"), "mine:400:bin");
}

/// Nothing is cached beyond what is certainly coherent: a new open sees what was changed at home.
fn a_changed_file_is_read_anew(place: &Place<'_>) {
    fs::write(place.at_home("f"), "first").unwrap();
    assert_eq!(fs::read(place.at("f")).unwrap(), b"first");
    for round in 0..50 {
        let text = format!("round {round}");
        fs::write(place.at_home("f"), &text).unwrap();
        assert_eq!(fs::read_to_string(place.at("f")).unwrap(), text);
        let text = format!("back {round}");
        fs::write(place.at("f"), &text).unwrap();
        assert_eq!(fs::read_to_string(place.at_home("f")).unwrap(), text);
    }
}

/// What one process closes at this moment is nothing to another that opens the same file.
fn many_open_and_close_one_file(place: &Place<'_>) {
    let path = place.at("f");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let file = OpenOptions::new().append(true).create(true).open(&path);
                    file.unwrap().write_all(b"line\n").unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(place.at_home("f")).unwrap(), "line\n".repeat(400));
}

/// Below the export; who may not change it is told EROFS by each call, as at home.
fn a_file_system_that_is_read_only(place: &Place<'_>) {
    place.run_at_home(
        "mkdir ro && mount -t tmpfs none ro && echo old >ro/f && mount -o remount,ro ro",
    );
    assert_eq!(fs::read(place.at("ro/f")).unwrap(), b"old\n");
    for (call, refused) in [
        ("open", errno(OpenOptions::new().write(true).open(place.at("ro/f")))),
        ("create", errno(File::create(place.at("ro/new")))),
        ("mkdir", errno(fs::create_dir(place.at("ro/new")))),
        ("unlink", errno(fs::remove_file(place.at("ro/f")))),
        ("rename", errno(fs::rename(place.at("ro/f"), place.at("ro/g")))),
        ("symlink", errno(symlink("x", place.at("ro/new")))),
        ("link", errno(fs::hard_link(place.at("ro/f"), place.at("ro/g")))),
        ("chmod", errno(fs::set_permissions(place.at("ro/f"), Permissions::from_mode(0o600)))),
    ] {
        assert_eq!(refused, libc::EROFS, "{call}");
    }
    let home = format!("umount -l {}/ro", place.inside_home);
    assert!(place.home_node().try_run(&home).status.success());
}
