//! Data of open files: appending, holes, copies, space, direct I/O.

use mfs::types::op::{CopyRange, Fallocate, Seek, Sync};
use mfs::types::{Access, Caller, Errno, FallocateMode, OpenFlags, SeekWhence};

use crate::lab::{Lab, needs_root, open_id};

fn open_new(lab: &Lab, child: &str, id: u64, flags: OpenFlags) {
    lab.create(&Caller::root(), &lab.root(), child, id, flags).unwrap();
}

#[test]
fn appends_of_several_opens_interleave_and_say_where_they_went() {
    needs_root();
    let lab = Lab::new();
    open_new(&lab, "f", 1, OpenFlags::APPEND);
    let file = lab.walk("f").unwrap().file;
    lab.open(&Caller::root(), &file, 2, Access::Write, OpenFlags::APPEND).unwrap();
    std::thread::scope(|scope| {
        for id in [1, 2] {
            let lab = &lab;
            scope.spawn(move || {
                for i in 0..300_u64 {
                    let line = format!("{id}:{i:08}\n");
                    let written = lab.write(id, 0, line.as_bytes()).unwrap();
                    let at = std::fs::read(lab.path("f")).unwrap();
                    let at = &at[written.offset as usize..][..line.len()];
                    assert_eq!(at, line.as_bytes());
                }
            });
        }
    });
    let text = std::fs::read_to_string(lab.path("f")).unwrap();
    assert_eq!(text.lines().count(), 600);
    for id in ["1:", "2:"] {
        let mine: Vec<_> = text.lines().filter(|line| line.starts_with(id)).collect();
        assert!(mine.is_sorted() && mine.len() == 300);
    }
}

#[test]
fn holes_are_made_and_found() {
    needs_root();
    let lab = Lab::new();
    open_new(&lab, "f", 1, OpenFlags::empty());
    let call = |mode, offset, length| {
        lab.call(&Caller::root(), Fallocate { open: open_id(1), mode, offset, length })
    };
    lab.write(1, 0, &[7; 65536]).unwrap();
    let punch = FallocateMode::PUNCH_HOLE | FallocateMode::KEEP_SIZE;
    assert_eq!(call(punch, 16384, 16384), Ok(()));
    let seek =
        |offset, whence| lab.call(&Caller::root(), Seek { open: open_id(1), offset, whence });
    assert_eq!(seek(0, SeekWhence::Hole), Ok(16384));
    assert_eq!(seek(16384, SeekWhence::Data), Ok(32768));
    assert_eq!(seek(65536, SeekWhence::Data), Err(Errno::NxIo));
    assert_eq!(seek(u64::MAX, SeekWhence::Data), Err(Errno::NxIo));
    assert_eq!(call(FallocateMode::empty(), 0, 100_000), Ok(()));
    assert_eq!(lab.walk("f").unwrap().attr.size, 100_000);
    assert_eq!(call(FallocateMode::empty(), 0, 0), Err(Errno::Inval));
    assert_eq!(call(FallocateMode::PUNCH_HOLE, 0, 10), Err(Errno::OpNotSupp));
    let file = lab.walk("f").unwrap().file;
    lab.open(&Caller::root(), &file, 2, Access::Read, OpenFlags::empty()).unwrap();
    let call = Fallocate { open: open_id(2), mode: FallocateMode::empty(), offset: 0, length: 1 };
    assert_eq!(lab.call(&Caller::root(), call), Err(Errno::BadF));
}

#[test]
fn a_copy_stays_on_the_node() {
    needs_root();
    let lab = Lab::new();
    open_new(&lab, "a", 1, OpenFlags::empty());
    open_new(&lab, "b", 2, OpenFlags::empty());
    let data: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    lab.write(1, 0, &data).unwrap();
    let copy = |source, target, length| {
        let (source, target) = (open_id(source), open_id(target));
        let copy = CopyRange { source, source_offset: 100, target, target_offset: 7, length };
        lab.call(&Caller::root(), copy)
    };
    assert_eq!(copy(1, 2, u64::MAX), Ok(data.len() as u64 - 100));
    let copied = std::fs::read(lab.path("b")).unwrap();
    assert_eq!(&copied[..7], &[0; 7]);
    assert_eq!(&copied[7..], &data[100..]);
    assert_eq!(copy(1, 1, 1000), Err(Errno::Inval), "onto itself");
    let file = lab.walk("a").unwrap().file;
    lab.open(&Caller::root(), &file, 3, Access::Write, OpenFlags::empty()).unwrap();
    assert_eq!(copy(3, 2, 10), Err(Errno::BadF));
}

#[test]
fn direct_io_works_aligned_and_is_refused_unaligned_as_locally() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), vec![5; 16384]).unwrap();
    let file = lab.walk("f").unwrap().file;
    let opened = lab.open(&Caller::root(), &file, 1, Access::ReadWrite, OpenFlags::DIRECT);
    assert_ne!(opened, Err(Errno::Inval), "needs a directory for temporary files with direct I/O");
    assert_eq!(lab.read(1, 4096, 4096).unwrap(), vec![5; 4096]);
    assert_eq!(lab.write(1, 8192, &[6; 4096]).unwrap().size, 4096);
    assert_eq!(lab.read(1, 8192, 4096).unwrap(), vec![6; 4096]);
    // What an unaligned read is depends on the file system and its device.
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let mut local = std::fs::File::options();
    let local = local.read(true).custom_flags(libc::O_DIRECT).open(lab.path("f")).unwrap();
    let mut buffer = vec![0; 3 * 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    let theirs = local.read_at(&mut buffer[skip..skip + 4096], 3);
    assert_eq!(lab.read(1, 3, 4096).is_ok(), theirs.is_ok());
}

#[test]
fn what_is_cached_is_read_at_once() {
    needs_root();
    use mfs::export::Opens;
    let lab = Lab::new();
    open_new(&lab, "f", 1, OpenFlags::empty());
    lab.write(1, 0, &[9; 8192]).unwrap();
    let open = lab.opens.find(open_id(1)).unwrap();
    // Where the file system can tell what is cached; tmpfs and overlay cannot.
    if let Some(read) = open.read_cached(0, 4096) {
        assert_eq!(read.data, vec![9; 4096]);
    }
    assert!(open.read_cached(4096, 8192).is_none(), "the end is for the pool");
    for (open, data_only) in [(1, true), (1, false)] {
        let sync = Sync { open: open_id(open), data_only };
        assert_eq!(lab.call(&Caller::root(), sync), Ok(()));
    }
}

#[test]
fn creation_is_exclusive_when_asked_and_truncates_only_what_exists() {
    needs_root();
    let lab = Lab::new();
    let (root, caller) = (lab.root(), Caller::root());
    open_new(&lab, "f", 1, OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE);
    lab.write(1, 0, b"text").unwrap();
    let create = |flags| lab.create(&caller, &root, "f", 2, flags).map(|entry| entry.attr.size);
    assert_eq!(create(OpenFlags::EXCLUSIVE), Err(Errno::Exist));
    assert_eq!(create(OpenFlags::empty()), Ok(4));
    assert_eq!(create(OpenFlags::TRUNCATE), Ok(0));
    lab.make_dir(&caller, &root, "d").unwrap();
    let directory = lab.create(&caller, &root, "d", 3, OpenFlags::empty());
    assert_eq!(directory, Err(Errno::IsDir));
    // Many at once: one makes it, the others open the same.
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (10..18)
            .map(|id| {
                let (lab, root) = (&lab, &root);
                scope.spawn(move || lab.create(&Caller::root(), root, "g", id, OpenFlags::empty()))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap().file).collect()
    });
    assert!(made.windows(2).all(|two| two[0] == two[1]));
}
