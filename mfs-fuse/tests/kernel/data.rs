//! Data: reading, writing, appending, mapping, executing; each asked for and passed through.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::{FallocateFlags, SeekFrom as Whence, fallocate};

use mfs::telemetry::metrics::MOUNT_PASSTHROUGH_OPENS;

use super::harness::{BOTH, Data, Mounted, sh};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 4_096) as u8).collect()
}

#[test]
fn a_file_of_many_requests_comes_back_as_it_went() {
    for data in BOTH {
        let m = Mounted::new(data);
        let content = pattern(5 * (1 << 20) + 12_345);
        let mut file = File::create(m.path("big")).unwrap();
        for chunk in content.chunks(1 << 20) {
            file.write_all(chunk).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), content.len() as u64, "{data:?}: size at once");
        drop(file);
        assert!(fs::read(m.beside("big")).unwrap() == content, "{data:?}");
        assert!(fs::read(m.path("big")).unwrap() == content, "{data:?}");
        let mut middle = [0; 100];
        let file = File::open(m.path("big")).unwrap();
        file.read_exact_at(&mut middle, 3_000_000).unwrap();
        assert_eq!(middle[..], content[3_000_000..3_000_100]);
        assert_eq!(file.read_at(&mut middle, content.len() as u64).unwrap(), 0, "the end");
    }
}

#[test]
fn appends_go_to_the_end_that_others_made() {
    for data in BOTH {
        let m = Mounted::new(data);
        let append = || File::options().append(true).create(true).open(m.path("log")).unwrap();
        let (mut one, mut two) = (append(), append());
        one.write_all(b"one ").unwrap();
        two.write_all(b"two ").unwrap();
        let mut beside = File::options().append(true).open(m.beside("log")).unwrap();
        beside.write_all(b"beside ").unwrap();
        one.write_all(b"three").unwrap();
        assert_eq!(fs::read_to_string(m.path("log")).unwrap(), "one two beside three", "{data:?}");
    }
}

#[test]
fn opening_truncates_and_sparse_files_have_holes() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "long content").unwrap();
        fs::write(m.path("f"), "new").unwrap();
        assert_eq!(fs::read_to_string(m.beside("f")).unwrap(), "new");
        let file = File::options().read(true).write(true).open(m.path("f")).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(b"end", 10 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (10 << 20) + 3);
        let data_at = rustix::fs::seek(&file, Whence::Data(0)).unwrap();
        assert!(data_at > 0 && data_at <= 10 << 20, "{data:?}: data at {data_at}");
        assert_eq!(rustix::fs::seek(&file, Whence::Hole(0)).unwrap(), 0);
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, punch, 0, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (10 << 20) + 3);
        file.sync_all().unwrap();
        file.sync_data().unwrap();
    }
}

#[test]
fn a_program_and_its_libraries_run_from_the_mount() {
    for data in BOTH {
        let m = Mounted::new(data);
        // By another process: a descriptor of this one would be copied to every process that another test
        // starts meanwhile, and what is open for writing cannot be run.
        assert_eq!(sh(&format!("cp /bin/sh {}", m.path("shell").display())).0, 0);
        let (status, text) = sh(&format!("{} -c 'echo it runs'", m.path("shell").display()));
        assert_eq!((status, text.as_str()), (0, "it runs\n"), "{data:?}");
        // While it runs nobody may write it.
        let mut child = std::process::Command::new(m.path("shell"))
            .args(["-c", "read line"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let busy = File::options().write(true).open(m.path("shell")).unwrap_err();
        assert_eq!(busy.raw_os_error(), Some(libc::ETXTBSY));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

#[test]
fn mappings_show_and_make_changes() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("map"), pattern(3 * 4_096)).unwrap();
        let file = File::options().read(true).write(true).open(m.path("map")).unwrap();
        let mut shared = super::harness::map::Map::shared(&file, 3 * 4_096);
        assert_eq!(shared.bytes()[5_000], pattern(3 * 4_096)[5_000]);
        shared.bytes_mut()[5_000..5_003].copy_from_slice(b"abc");
        shared.sync();
        assert_eq!(fs::read(m.beside("map")).unwrap()[5_000..5_003], *b"abc", "{data:?}");
        let mut private = super::harness::map::Map::private(&file, 3 * 4_096);
        private.bytes_mut()[0] = 0xee;
        assert_ne!(fs::read(m.beside("map")).unwrap()[0], 0xee);
    }
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    for data in BOTH {
        let m = Mounted::new(data);
        let mut file =
            File::options().read(true).write(true).create_new(true).open(m.path("gone")).unwrap();
        file.write_all(b"still ").unwrap();
        fs::remove_file(m.path("gone")).unwrap();
        file.write_all(b"here").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still here");
        let seen = file.metadata().unwrap();
        assert_eq!((seen.len(), seen.nlink()), (10, 0), "{data:?}");
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        file.set_len(4).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4);
    }
}

#[test]
fn a_file_made_read_only_is_written_by_its_maker() {
    for data in BOTH {
        let m = Mounted::new(data);
        let mut file =
            File::options().write(true).create_new(true).mode(0o444).open(m.path("ro")).unwrap();
        file.write_all(b"written").unwrap();
        assert_eq!(fs::read(m.path("ro")).unwrap(), b"written");
        let again = File::options().write(true).create_new(true).open(m.path("ro")).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST));
    }
}

#[test]
fn one_file_may_be_open_in_every_way_at_once() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "content").unwrap();
        let reader = File::open(m.path("f")).unwrap();
        let writer = File::options().write(true).open(m.path("f")).unwrap();
        let both = File::options().read(true).write(true).open(m.path("f")).unwrap();
        let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(m.path("f"));
        writer.write_all_at(b"C", 0).unwrap();
        let mut buffer = [0; 7];
        reader.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"Content", "{data:?}");
        both.read_exact_at(&mut buffer, 0).unwrap();
        drop((reader, writer, both, direct));
        assert_eq!(fs::read(m.path("f")).unwrap(), b"Content");
    }
}

#[test]
fn copies_within_the_mount_stay_at_the_node() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("from"), pattern(300_000)).unwrap();
        assert_eq!(fs::copy(m.path("from"), m.path("to")).unwrap(), 300_000);
        assert!(fs::read(m.beside("to")).unwrap() == pattern(300_000), "{data:?}");
    }
}

/// Whether this kernel takes backing files (Linux 6.9).
fn kernel_passes_through() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

#[test]
fn local_files_are_given_to_the_kernel() {
    let m = Mounted::new(Data::Passed);
    assert!(kernel_passes_through(), "backing files need Linux 6.9");
    let before = MOUNT_PASSTHROUGH_OPENS.value();
    fs::write(m.path("f"), "through").unwrap();
    assert_eq!(fs::read(m.path("f")).unwrap(), b"through");
    assert!(MOUNT_PASSTHROUGH_OPENS.value() >= before + 2, "creating and opening");
}
