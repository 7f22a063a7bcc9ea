//! Times, sizes, and files that live on without a name.

use mfs::types::op::{GetAttr, GetXattr, ReadLink, SetAttributes, SetXattr, StatFsOf};
use mfs::types::{
    Access, Caller, Errno, OpenFlags, SetAttr, SetTime, SetXattrMode, Timestamp, XattrName,
};

use crate::lab::{Lab, needs_root, open_id, user};

fn at(seconds: i64, nanos: u32) -> Option<SetTime> {
    Some(SetTime::To(Timestamp { seconds, nanos }))
}

#[test]
fn times_are_set_to_the_nanosecond_omitted_and_set_to_now() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), b"x").unwrap();
    let file = lab.walk("f").unwrap().file;
    let caller = Caller::root();
    let set =
        |atime, mtime| lab.set(&caller, &file, SetAttr { atime, mtime, ..SetAttr::default() });
    let attr = set(at(12, 345_678_901), at(-5, 999_999_999)).unwrap();
    assert_eq!(attr.atime, Timestamp { seconds: 12, nanos: 345_678_901 });
    assert_eq!(attr.mtime, Timestamp { seconds: -5, nanos: 999_999_999 });
    let attr = set(None, at(7, 0)).unwrap();
    assert_eq!((attr.atime.seconds, attr.mtime.seconds), (12, 7));
    let attr = set(Some(SetTime::Now), None).unwrap();
    assert!(attr.atime.seconds > 1_000_000_000 && attr.mtime.seconds == 7);
    // No number of nanoseconds is taken for one of the special values.
    for nanos in [1_000_000_000, 0x3fff_ffff, 0x3fff_fffe, u32::MAX] {
        assert_eq!(set(at(1, nanos), None), Err(Errno::Inval));
    }
    // Others may set them to now if they may write, and to nothing else.
    let writable = SetAttr { mode: Some(0o666), ..SetAttr::default() };
    lab.set(&caller, &file, writable).unwrap();
    let set =
        |atime, mtime| lab.set(&user(1001), &file, SetAttr { atime, mtime, ..SetAttr::default() });
    assert!(set(Some(SetTime::Now), Some(SetTime::Now)).is_ok());
    assert_eq!(set(at(1, 0), at(1, 0)), Err(Errno::Perm));
}

#[test]
fn an_impossible_owner_is_not_no_change() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    for (uid, gid) in [(Some(u32::MAX), None), (None, Some(u32::MAX))] {
        let set = SetAttr { uid, gid, ..SetAttr::default() };
        assert_eq!(lab.set(&Caller::root(), &root, set), Err(Errno::Inval));
    }
}

#[test]
fn an_unlinked_file_lives_on_through_its_open() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), Caller::root());
    let made = lab.create(&caller, &root, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
    lab.write(1, 0, b"text").unwrap();
    lab.unlink(&root, "f").unwrap();
    let open = Some(open_id(1));
    let change =
        |set| lab.call(&caller, SetAttributes { file: made.file.clone(), open, set }).unwrap();
    let attr = change(SetAttr { mode: Some(0o600), ..SetAttr::default() });
    assert_eq!((attr.mode, attr.nlink, attr.ino), (0o600, 0, made.attr.ino));
    assert_eq!(change(SetAttr { size: Some(2), ..SetAttr::default() }).size, 2);
    assert_eq!(change(SetAttr { uid: Some(5), ..SetAttr::default() }).uid, 5);
    assert_eq!(&lab.read(1, 0, 10).unwrap()[..], b"te");
    // Operations that cannot name the open find it too.
    let xattr = XattrName::parse(&b"user.a"[..]).unwrap();
    let set = SetXattr {
        file: made.file.clone(),
        name: xattr.clone(),
        value: (&b"v"[..]).into(),
        mode: SetXattrMode::Create,
    };
    assert_eq!(lab.call(&caller, set), Ok(()));
    let get = GetXattr { file: made.file.clone(), name: xattr };
    assert_eq!(lab.call(&caller, get).as_deref(), Ok(&b"v"[..]));
    assert!(lab.call(&caller, StatFsOf { file: made.file.clone() }).is_ok());
    lab.release(1);
    let gone = GetAttr { file: made.file.clone(), open: None };
    assert_eq!(lab.call(&caller, gone), Err(Errno::Stale));
    let gone = GetAttr { file: made.file.clone(), open };
    assert_eq!(lab.call(&caller, gone), Err(Errno::BadF));
}

#[test]
fn a_new_size_through_an_open_needs_only_that_it_writes() {
    needs_root();
    let lab = Lab::new();
    let root = lab.root();
    let open_to_all = SetAttr { mode: Some(0o777), ..SetAttr::default() };
    lab.set(&Caller::root(), &root, open_to_all).unwrap();
    let caller = user(1001);
    let made = lab.create(&caller, &root, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
    let closed = SetAttr { mode: Some(0), ..SetAttr::default() };
    lab.set(&caller, &made.file, closed).unwrap();
    let size = SetAttr { size: Some(9), ..SetAttr::default() };
    assert_eq!(lab.set(&caller, &made.file, size.clone()), Err(Errno::Access));
    let through = |id| {
        let open = Some(open_id(id));
        lab.call(&caller, SetAttributes { file: made.file.clone(), open, set: size.clone() })
    };
    assert_eq!(through(1).unwrap().size, 9);
    lab.open(&Caller::root(), &made.file, 2, Access::Read, OpenFlags::empty()).unwrap();
    assert_eq!(through(2), Err(Errno::Inval));
}

#[test]
fn a_link_says_what_it_was_made_to_say() {
    needs_root();
    use mfs::types::op::MakeSymlink;
    let lab = Lab::new();
    let make = |child: &str, target: &[u8]| {
        let target = bytes::Bytes::copy_from_slice(target);
        let make = MakeSymlink { parent: lab.root(), name: crate::lab::name(child), target };
        lab.call(&Caller::root(), make)
    };
    for target in [&b"a"[..], b"../../etc/passwd", b"\xff\xfe", &[b'x'; 4095]] {
        let link = make("l", target).unwrap();
        let read = lab.call(&Caller::root(), ReadLink { file: link.file }).unwrap();
        assert_eq!(&read[..], target);
        lab.unlink(&lab.root(), "l").unwrap();
    }
    assert_eq!(make("l", b""), Err(Errno::NoEnt));
    assert_eq!(make("l", b"a\0b"), Err(Errno::Inval));
    assert_eq!(make("l", &[b'x'; 4096]), Err(Errno::NameTooLong));
    let none = lab.call(&Caller::root(), ReadLink { file: lab.root() });
    assert_eq!(none, Err(Errno::Inval));
}

#[test]
fn a_second_open_of_a_number_takes_the_place_of_the_first() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("a"), b"a").unwrap();
    std::fs::write(lab.path("b"), b"b").unwrap();
    let (a, b) = (lab.walk("a").unwrap().file, lab.walk("b").unwrap().file);
    let open = |file| lab.open(&Caller::root(), file, 1, Access::Read, OpenFlags::empty());
    open(&a).unwrap();
    open(&a).unwrap();
    assert_eq!(mfs::export::Opens::tenant(&lab.opens).descriptors(), 1, "one descriptor");
    open(&b).unwrap();
    assert_eq!(&lab.read(1, 0, 9).unwrap()[..], b"b");
    assert_eq!(mfs::export::Opens::tenant(&lab.opens).descriptors(), 1);
}

#[test]
fn a_file_is_gone_also_while_its_number_is_given_to_another() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), Caller::root());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Takes every number that becomes free.
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let taken: Vec<_> = (0..8).map(|i| lab.path(&format!("other-{i}"))).collect();
                taken.iter().for_each(|path| drop(std::fs::write(path, b"x")));
                taken.iter().for_each(|path| drop(std::fs::remove_file(path)));
            }
        });
        // Also when an assertion fails, or the other thread would go on for ever.
        let _ends = Ends(&done);
        for _ in 0..2000 {
            let made = lab.create(&caller, &root, "f", 1, OpenFlags::EXCLUSIVE).unwrap();
            lab.unlink(&root, "f").unwrap();
            lab.release(1);
            assert_eq!(lab.attr(&made.file), Err(Errno::Stale));
        }
    });
}

/// Says that it is over when dropped.
struct Ends<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
