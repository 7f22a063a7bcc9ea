//! Files that were opened and read before, and are opened and read again without asking anybody: they show what
//! one machine would show, whatever the other does with them meanwhile.

use libc::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use rustix::io::Errno;

use super::actor::{Actor, EXCLUSIVE, FREE, Family, SHARED};
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        what_is_opened_again_is_what_the_other_has_written,
        an_open_that_only_one_side_knows_of_sees_every_overwrite,
        an_open_that_only_one_side_knows_of_outlives_its_name,
        a_replaced_file_that_is_opened_again_is_the_new_one,
        a_file_that_was_read_often_is_shorter_and_longer_at_once,
        a_file_that_a_reader_has_emptied_is_empty,
        a_mode_that_forbids_reading_ends_opens_and_not_what_is_open,
        reading_again_and_again_beside_a_writer_never_goes_back,
        writers_and_readers_by_turns_wait_for_nobody,
        a_close_that_nobody_is_told_of_drops_the_locks_of_its_process,
        locks_order_what_is_opened_again,
        a_mapping_of_what_is_opened_again_is_as_new_as_its_file,
        what_was_read_often_is_run_and_then_not_written;
}

/// Opens, reads and closes until it can be done without a message.
fn read_often(by: &Actor, name: &str) {
    for _ in 0..3 {
        by.get(name).unwrap();
    }
}

fn what_is_opened_again_is_what_the_other_has_written(two: &Two<'_>) {
    two.given("f", b"0");
    for turn in 0..12_u8 {
        let (writer, reader) = if turn % 3 == 2 { (&two.b, &two.a) } else { (&two.a, &two.b) };
        read_often(reader, "f");
        let text = vec![b'a' + turn; 1 + usize::from(turn) * 900];
        if turn % 2 == 0 {
            writer.put("f", &text).unwrap();
        } else {
            let fd = writer.open("f", O_WRONLY | O_TRUNC).unwrap();
            writer.write(fd, &text).unwrap();
            writer.close(fd).unwrap();
        }
        assert!(reader.get("f").unwrap() == text, "turn {turn}");
        assert!(writer.get("f").unwrap() == text, "turn {turn}");
    }
}

fn an_open_that_only_one_side_knows_of_sees_every_overwrite(two: &Two<'_>) {
    two.given("f", b"00");
    read_often(&two.b, "f");
    let kept = two.b.open("f", O_RDONLY).unwrap();
    let writer = two.a.open("f", O_RDWR).unwrap();
    for turn in 10..40 {
        let text = turn.to_string();
        two.a.pwrite(writer, text.as_bytes(), 0).unwrap();
        assert_eq!(two.b.pread(kept, 10, 0).unwrap(), text.as_bytes());
        if turn == 20 {
            two.a.close(writer).unwrap();
            // Nobody writes it for a moment: what is read may be kept, and must not stay.
            read_often(&two.b, "f");
            assert_eq!(two.b.pread(kept, 10, 0).unwrap(), text.as_bytes());
            let again = two.a.open("f", O_RDWR).unwrap();
            assert_eq!(again, writer, "the lowest number that is free");
        }
    }
}

fn an_open_that_only_one_side_knows_of_outlives_its_name(two: &Two<'_>) {
    two.given("f", b"text");
    read_often(&two.b, "f");
    let kept = two.b.open("f", O_RDONLY).unwrap();
    let more = two.b.open("f", O_RDONLY).unwrap();
    two.a.unlink("f").unwrap();
    assert_eq!(two.b.all(kept).unwrap(), b"text");
    two.b.sees(0, |b| b.fstat(kept).unwrap().links);
    two.b.sees(Err(Errno::NOENT), |b| b.open("f", O_RDONLY));
    two.b.close(kept).unwrap();
    assert_eq!(two.b.all(more).unwrap(), b"text");
    two.a.put("f", b"another").unwrap();
    two.b.sees(Ok("another".to_owned()), |b| b.text("f"));
    assert_eq!(two.b.all(more).unwrap(), b"text");
    // Its own removal is no different.
    read_often(&two.b, "f");
    let kept = two.b.open("f", O_RDONLY).unwrap();
    two.b.unlink("f").unwrap();
    assert_eq!(two.b.all(kept).unwrap(), b"another");
}

fn a_replaced_file_that_is_opened_again_is_the_new_one(two: &Two<'_>) {
    two.given("f", b"text 0");
    for turn in 1..8 {
        read_often(&two.b, "f");
        let kept = two.b.open("f", O_RDONLY).unwrap();
        let before = two.b.all(kept).unwrap();
        let text = format!("text {turn}");
        two.a.put("new", text.as_bytes()).unwrap();
        two.a.rename("new", "f").unwrap();
        two.b.sees(Ok(text), |b| b.text("f"));
        assert_eq!(two.b.all(kept).unwrap(), before);
        two.b.close(kept).unwrap();
    }
}

fn a_file_that_was_read_often_is_shorter_and_longer_at_once(two: &Two<'_>) {
    two.given("f", &[b'x'; 10_000]);
    for size in [9_999, 5_000, 0, 3, 12_000, 1] {
        read_often(&two.b, "f");
        let kept = two.b.open("f", O_RDONLY).unwrap();
        two.a.truncate("f", size).unwrap();
        assert_eq!(two.b.all(kept).unwrap().len(), size);
        assert_eq!(two.b.get("f").unwrap().len(), size);
        two.b.close(kept).unwrap();
    }
    read_often(&two.b, "f");
    let kept = two.b.open("f", O_RDONLY).unwrap();
    for turn in 1..6 {
        two.a.append("f", b"more").unwrap();
        assert_eq!(two.b.all(kept).unwrap().len(), 1 + 4 * turn);
    }
}

/// By open(2) with O_RDONLY and O_TRUNC, which the kernel takes for reading: it waits for nobody.
fn a_file_that_a_reader_has_emptied_is_empty(two: &Two<'_>) {
    for _ in 0..5 {
        two.given("f", &[b'x'; 10_000]);
        read_often(&two.b, "f");
        let kept = two.b.open("f", O_RDONLY).unwrap();
        assert_eq!(two.b.all(kept).unwrap().len(), 10_000);
        let emptied = two.a.open("f", O_RDONLY | O_TRUNC).unwrap();
        two.b.sees(0, |b| b.all(kept).unwrap().len());
        two.b.sees(0, |b| b.get("f").unwrap().len());
        two.a.close(emptied).unwrap();
        two.b.close(kept).unwrap();
    }
}

fn a_mode_that_forbids_reading_ends_opens_and_not_what_is_open(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().chmod("f", 0o644).unwrap();
    two.b.as_user(1000);
    two.b.sees(Ok("text".to_owned()), |b| b.text("f"));
    read_often(&two.b, "f");
    let kept = two.b.open("f", O_RDONLY).unwrap();
    two.a.chmod("f", 0o600).unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.open("f", O_RDONLY).map(|fd| b.close(fd).unwrap()));
    assert_eq!(two.b.all(kept).unwrap(), b"text");
    two.a.put("f", b"more text").unwrap();
    assert_eq!(two.b.all(kept).unwrap(), b"more text");
}

fn reading_again_and_again_beside_a_writer_never_goes_back(two: &Two<'_>) {
    two.given("f", b"00000000");
    let write = |a: &Actor| {
        for turn in 1..60 {
            let fd = a.open("f", O_WRONLY).unwrap();
            a.pwrite(fd, format!("{turn:08}").as_bytes(), 0).unwrap();
            a.close(fd).unwrap();
        }
    };
    let read = |b: &Actor| {
        let (mut last, mut kept) = (0, b.open("f", O_RDONLY).unwrap());
        for turn in 0..200 {
            let text = if turn % 2 == 0 { b.get("f") } else { b.pread(kept, 8, 0) };
            let now: u32 = String::from_utf8(text.unwrap()).unwrap().parse().unwrap();
            assert!(now >= last, "{now} after {last}");
            last = now;
            if turn % 10 == 9 {
                b.close(kept).unwrap();
                kept = b.open("f", O_RDONLY).unwrap();
            }
        }
    };
    two.together(write, read);
    assert_eq!(two.b.text("f").unwrap(), "00000059");
    assert_eq!(two.a.text("f").unwrap(), "00000059");
}

/// As programs do that keep a small state in a file: nobody is ended for not giving back what it was asked for.
fn writers_and_readers_by_turns_wait_for_nobody(two: &Two<'_>) {
    two.given("f", b"0");
    let (home, _) = two.home();
    let unanswered = || {
        let figures: serde_json::Value =
            serde_json::from_str(&home.run("mfs stats --json")).unwrap();
        figures["daemon"]["metrics"]["mfs_server_recalls_unanswered_total"].as_u64().unwrap()
    };
    let before = unanswered();
    for turn in 0..40 {
        let (one, other) = if turn % 2 == 0 { (&two.a, &two.b) } else { (&two.b, &two.a) };
        let before: u32 = one.text("f").unwrap().parse().unwrap();
        one.put("f", (before + 1).to_string().as_bytes()).unwrap();
        assert_eq!(other.text("f").unwrap(), (before + 1).to_string());
        assert_eq!(other.text("f").unwrap(), (before + 1).to_string());
    }
    assert_eq!(unanswered(), before);
}

fn a_close_that_nobody_is_told_of_drops_the_locks_of_its_process(two: &Two<'_>) {
    two.given("f", b"text");
    let locked = two.b.open("f", O_RDONLY).unwrap();
    two.b.lock(Family::Process, locked, SHARED).unwrap();
    read_often(&two.a, "f");
    let theirs = two.a.open("f", O_RDONLY).unwrap();
    let writer = two.beside_a();
    let fd = writer.open("f", O_RDWR).unwrap();
    assert!(!writer.is_free(Family::Process, fd, EXCLUSIVE));
    writer.close(fd).unwrap();
    two.a.close(theirs).unwrap();
    // Opened and closed again, by the process that holds the lock: it is gone (fcntl(2)).
    two.b.lock(Family::Process, locked, SHARED).unwrap();
    let again = two.b.open("f", O_RDONLY).unwrap();
    assert_eq!(two.b.all(again).unwrap(), b"text");
    two.b.close(again).unwrap();
    let fd = writer.open("f", O_RDWR).unwrap();
    assert!(writer.is_free(Family::Process, fd, EXCLUSIVE));
}

fn locks_order_what_is_opened_again(two: &Two<'_>) {
    two.given("lock", b"");
    two.given("f", b"0");
    let count = |actor: &Actor| {
        let lock = actor.open("lock", O_RDWR | O_CREAT).unwrap();
        for _ in 0..25 {
            actor.lock(Family::Process, lock, EXCLUSIVE).unwrap();
            let before: u32 = actor.text("f").unwrap().parse().unwrap();
            let again: u32 = actor.text("f").unwrap().parse().unwrap();
            assert_eq!(before, again);
            actor.put("f", (before + 1).to_string().as_bytes()).unwrap();
            actor.lock(Family::Process, lock, FREE).unwrap();
        }
    };
    two.together(count, count);
    assert_eq!(two.a.text("f").unwrap(), "50");
    assert_eq!(two.b.text("f").unwrap(), "50");
}

fn a_mapping_of_what_is_opened_again_is_as_new_as_its_file(two: &Two<'_>) {
    const PAGE: usize = 4096;
    two.given("f", &[b'0'; PAGE]);
    for turn in 1..5_u8 {
        // First through a mapping, so that its pages are kept, then without anybody else knowing.
        for _ in 0..2 {
            let fd = two.b.open("f", O_RDONLY).unwrap();
            let map = two.b.map_private(fd, PAGE).unwrap();
            two.b.load(map, 1, 0);
            two.b.unmap(map).unwrap();
            two.b.close(fd).unwrap();
            read_often(&two.b, "f");
        }
        let fd = two.b.open("f", O_RDONLY).unwrap();
        let map = two.b.map_private(fd, 8 * PAGE).unwrap();
        two.b.load(map, 1, 0);
        let writer = two.a.open("f", O_RDWR).unwrap();
        two.a.pwrite(writer, &[b'0' + turn], 0).unwrap();
        two.b.maps_to(vec![b'0' + turn], |b| b.load(map, 1, 0));
        let end = usize::from(turn) * PAGE;
        two.a.pwrite(writer, b"more", end).unwrap();
        two.b.maps_to(Ok(()), |b| b.probe(map, end));
        two.b.maps_to(b"more".to_vec(), |b| b.load(map, 4, end));
        two.a.close(writer).unwrap();
        two.b.unmap(map).unwrap();
        two.b.close(fd).unwrap();
    }
}

fn what_was_read_often_is_run_and_then_not_written(two: &Two<'_>) {
    two.given("program", &std::fs::read("/bin/sleep").unwrap());
    two.maker().chmod("program", 0o755).unwrap();
    two.b.sees(0o755, |b| b.stat("program").unwrap().mode & 0o777);
    read_often(&two.b, "program");
    let kept = two.b.open("program", O_RDONLY).unwrap();
    let pid = two.b.shell("./program 600 >/dev/null 2>&1 </dev/null & echo $!");
    let running = two
        .b
        .shell(&format!("until [ \"$(cat /proc/{pid}/comm)\" = program ]; do :; done; echo yes"));
    assert_eq!(running, "yes");
    let busy = two.b.open("program", O_RDWR);
    two.b.shell(&format!("kill {pid}; while [ -d /proc/{pid} ]; do sleep 0.01; done"));
    assert_eq!(busy, Err(Errno::TXTBSY));
    assert_eq!(two.b.pread(kept, 4, 0).unwrap(), b"\x7fELF");
    let fd = two.b.open("program", O_RDWR).unwrap();
    two.b.close(fd).unwrap();
}
