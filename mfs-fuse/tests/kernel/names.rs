//! Names: making, finding, moving, removing; what other observers of the tree see.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::harness::{Data, Mounted};

#[test]
fn what_is_made_in_the_mount_is_there_beside_it() {
    let m = Mounted::new(Data::Asked);
    fs::create_dir(m.path("d")).unwrap();
    fs::write(m.path("d/f"), "hello").unwrap();
    symlink("f", m.path("d/l")).unwrap();
    fs::hard_link(m.path("d/f"), m.path("d/h")).unwrap();
    assert_eq!(fs::read(m.beside("d/f")).unwrap(), b"hello");
    assert_eq!(fs::read_link(m.beside("d/l")).unwrap().as_os_str(), "f");
    assert_eq!(fs::metadata(m.path("d/h")).unwrap().nlink(), 2);
    let (f, h) = (fs::metadata(m.path("d/f")).unwrap(), fs::metadata(m.path("d/h")).unwrap());
    assert_eq!(f.ino(), h.ino(), "two names of one file have one number");
    assert_eq!(fs::read(m.path("d/l")).unwrap(), b"hello", "the link is followed");

    fs::write(m.beside("d/f"), "changed beside").unwrap();
    assert_eq!(fs::read(m.path("d/f")).unwrap(), b"changed beside", "nothing old is shown");
    fs::remove_file(m.beside("d/l")).unwrap();
    assert!(fs::symlink_metadata(m.path("d/l")).is_err());

    assert_eq!(fs::remove_dir(m.path("d")).unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
    fs::remove_file(m.path("d/f")).unwrap();
    fs::remove_file(m.path("d/h")).unwrap();
    fs::remove_dir(m.path("d")).unwrap();
    assert!(!m.beside("d").exists());
}

#[test]
fn errors_are_those_of_the_file_system() {
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("f"), "").unwrap();
    fs::create_dir(m.path("d")).unwrap();
    let errno = |error: std::io::Error| error.raw_os_error().unwrap();
    assert_eq!(errno(fs::metadata(m.path("no")).unwrap_err()), libc::ENOENT);
    assert_eq!(errno(fs::metadata(m.path("f/x")).unwrap_err()), libc::ENOTDIR);
    assert_eq!(errno(fs::create_dir(m.path("f")).unwrap_err()), libc::EEXIST);
    assert_eq!(errno(fs::remove_file(m.path("d")).unwrap_err()), libc::EISDIR);
    let long = "x".repeat(256);
    assert_eq!(errno(fs::metadata(m.path(&long)).unwrap_err()), libc::ENAMETOOLONG);
    assert!(fs::write(m.path(&"x".repeat(255)), "").is_ok());
}

#[test]
fn renames_take_the_flags() {
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("a"), "a").unwrap();
    fs::write(m.path("b"), "b").unwrap();
    let rename = |from: &str, to: &str, flags| {
        renameat_with(CWD, m.path(from), CWD, m.path(to), flags).map_err(|e| e.raw_os_error())
    };
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(libc::EEXIST));
    assert_eq!(rename("a", "b", RenameFlags::EXCHANGE), Ok(()));
    assert_eq!(fs::read(m.path("a")).unwrap(), b"b");
    assert_eq!(fs::read(m.beside("b")).unwrap(), b"a");
    assert_eq!(rename("a", "b", RenameFlags::empty()), Ok(()));
    assert_eq!(fs::read(m.path("b")).unwrap(), b"b");
    assert!(fs::metadata(m.path("a")).is_err());
}

#[test]
fn special_files_are_seen_and_fifos_work_here() {
    let m = Mounted::new(Data::Asked);
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, m.path("fifo"), FileType::Fifo, mode, 0).unwrap();
    let device = rustix::fs::makedev(1, 3);
    mknodat(CWD, m.path("null"), FileType::CharacterDevice, mode, device).unwrap();
    let null = fs::metadata(m.path("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), device);
    let refused = fs::read(m.path("null")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "nodev");
    let (status, text) = super::harness::sh(&format!(
        "cd {}; echo through > fifo & cat fifo; wait",
        m.path("").display()
    ));
    assert_eq!((status, text.as_str()), (0, "through\n"));
    let socket = std::os::unix::net::UnixListener::bind(m.path("s"));
    assert!(socket.is_ok() && fs::metadata(m.path("s")).unwrap().file_type().is_socket());
}

#[test]
fn attributes_are_set_as_asked() {
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("f"), "12345").unwrap();
    fs::set_permissions(m.path("f"), fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(m.path("f"), Some(7), Some(8)).unwrap();
    let file = fs::File::options().write(true).open(m.path("f")).unwrap();
    file.set_len(3).unwrap();
    let early = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1_500);
    let late = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 9);
    file.set_times(fs::FileTimes::new().set_accessed(early).set_modified(late)).unwrap();
    for path in [m.path("f"), m.beside("f")] {
        let seen = fs::metadata(path).unwrap();
        assert_eq!((seen.uid(), seen.gid(), seen.len()), (7, 8, 3));
        assert_eq!((seen.atime(), seen.atime_nsec()), (-2, 500_000_000));
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (1_000_000_007, 9));
    }
}

#[test]
fn extended_attributes_survive() {
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("f"), "").unwrap();
    use rustix::fs::{XattrFlags, getxattr, getxattr_query, listxattr, removexattr, setxattr};
    setxattr(m.path("f"), "user.one", b"1", XattrFlags::CREATE).unwrap();
    let again = setxattr(m.path("f"), "user.one", b"1", XattrFlags::CREATE).unwrap_err();
    assert_eq!(again.raw_os_error(), libc::EEXIST);
    let mut value = [0_u8; 16];
    assert_eq!(getxattr(m.path("f"), "user.one", &mut value).unwrap(), 1);
    assert_eq!(getxattr_query(m.path("f"), "user.one").unwrap(), 1, "the size alone");
    let mut names = [0_u8; 64];
    let length = listxattr(m.path("f"), &mut names).unwrap();
    assert_eq!(&names[..length], b"user.one\0");
    removexattr(m.path("f"), "user.one").unwrap();
    let gone = getxattr(m.beside("f"), "user.one", &mut value).unwrap_err();
    assert_eq!(gone.raw_os_error(), libc::ENODATA);
}
