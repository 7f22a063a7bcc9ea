//! Programs that are used to one machine: databases, make, git, tar, editors' ways of saving.

use libc::{O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

use super::actor::Actor;
use super::stage::{Two, cases};

cases! {
    BETWEEN_MOUNTS:
        sqlite_with_a_rollback_journal_loses_nothing,
        sqlite_with_a_write_ahead_log_loses_nothing,
        sqlite_readers_see_each_committed_row,
        make_builds_what_was_edited_elsewhere,
        make_does_not_build_what_is_up_to_date,
        git_sees_what_was_committed_elsewhere,
        a_program_is_run_as_it_was_just_written,
        a_program_that_runs_cannot_be_written,
        a_program_that_ended_is_written_at_once,
        a_program_that_was_closed_is_run_at_once;
    EVERYWHERE:
        a_program_that_is_written_cannot_be_run,
        an_archive_that_was_unpacked_is_whole,
        a_file_that_is_saved_by_renaming_is_never_half,
        a_pid_file_is_taken_by_one,
        grep_finds_what_was_just_written;
}

/// Adds one to a number in a database, again and again.
const COUNT: &str = "\
import sqlite3
db = sqlite3.connect('db', timeout=60, isolation_level=None)
for turn in range(6):
    db.execute('begin immediate')
    (n,) = db.execute('select n from t').fetchone()
    db.execute('update t set n = ?', (n + 1,))
    db.execute('commit')
";

/// Makes the database in a journal mode; says which it is.
fn database(two: &Two<'_>, mode: &str) {
    let said = two.a.shell(&format!(
        "sqlite3 db 'pragma journal_mode={mode}; create table t(n); insert into t values (0);'"
    ));
    assert_eq!(said, mode);
    two.given("count.py", COUNT.as_bytes());
}

fn counted(two: &Two<'_>) {
    two.together(|a| a.shell("python3 count.py"), |b| b.shell("python3 count.py"));
    for actor in [&two.a, &two.b] {
        let line = "sqlite3 -cmd '.timeout 60000' db 'select n from t; pragma integrity_check;'";
        assert_eq!(actor.shell(line), "12\nok");
    }
}

fn sqlite_with_a_rollback_journal_loses_nothing(two: &Two<'_>) {
    database(two, "delete");
    counted(two);
}

fn sqlite_with_a_write_ahead_log_loses_nothing(two: &Two<'_>) {
    database(two, "wal");
    // Held open by both before either writes, so that both have the log's index mapped.
    let held = "\
import sqlite3, subprocess, sys
db = sqlite3.connect('db', timeout=60, isolation_level=None)
assert db.execute('select n from t').fetchone() == (0,)
open('ready-' + sys.argv[1], 'w').close()
import os, time
while not (os.path.exists('ready-a') and os.path.exists('ready-b')): time.sleep(0.01)
exec(open('count.py').read().split('\\n', 2)[2])
";
    two.given("held.py", held.as_bytes());
    two.together(|a| a.shell("python3 held.py a"), |b| b.shell("python3 held.py b"));
    for actor in [&two.a, &two.b] {
        let line = "sqlite3 -cmd '.timeout 60000' db 'select n from t; pragma integrity_check;'";
        assert_eq!(actor.shell(line), "12\nok");
    }
}

fn sqlite_readers_see_each_committed_row(two: &Two<'_>) {
    database(two, "delete");
    for turn in 1..=4 {
        let [one, other] = if turn % 2 == 0 { [&two.a, &two.b] } else { [&two.b, &two.a] };
        one.shell("sqlite3 db 'update t set n = n + 1'");
        assert_eq!(other.shell("sqlite3 db 'select n from t'"), turn.to_string());
    }
}

const MAKEFILE: &[u8] = b"\
result: one two
\tcat one two > result
%: %.src
\ttr a-z A-Z < $< > $@
";

fn project(two: &Two<'_>) {
    for (name, bytes) in [("Makefile", MAKEFILE), ("one.src", b"one\n"), ("two.src", b"two\n")] {
        two.given(name, bytes);
    }
    two.b.shell("make -s");
    assert_eq!(two.b.text("result").unwrap(), "ONE\nTWO\n");
}

fn make_builds_what_was_edited_elsewhere(two: &Two<'_>) {
    project(two);
    for turn in 0..3 {
        let [editor, builder] = if turn % 2 == 0 { [&two.a, &two.b] } else { [&two.b, &two.a] };
        editor.put("one.src", format!("edit {turn}\n").as_bytes()).unwrap();
        builder.shell("make -s");
        assert_eq!(editor.text("result").unwrap(), format!("EDIT {turn}\nTWO\n"));
    }
    // Renamed over, as an editor does.
    two.a.put("two.new", b"renamed\n").unwrap();
    two.a.rename("two.new", "two.src").unwrap();
    two.b.shell("make -s");
    assert_eq!(two.a.text("result").unwrap(), "EDIT 2\nRENAMED\n");
    two.a.unlink("one").unwrap();
    two.b.shell("make -s");
    assert_eq!(two.a.text("one").unwrap(), "EDIT 2\n");
}

fn make_does_not_build_what_is_up_to_date(two: &Two<'_>) {
    project(two);
    assert_eq!(two.a.try_shell("make -q").0, 0, "what was built there looks old here");
    two.a.put("two.src", b"changed\n").unwrap();
    assert_eq!(two.b.try_shell("make -q").0, 1, "what was changed there looks built here");
}

fn git_sees_what_was_committed_elsewhere(two: &Two<'_>) {
    let git = "git -c user.name=x -c user.email=x@example.org -c gc.auto=0";
    two.a.shell(&format!("git init -q . && echo 1 > f && git add f && {git} commit -q -m one"));
    assert_eq!(two.b.shell("git status --porcelain"), "");
    assert_eq!(two.b.shell("git log --format=%s"), "one");
    two.b.put("f", b"22\n").unwrap();
    assert_eq!(two.a.shell("git status --porcelain"), " M f");
    two.b.shell(&format!("{git} commit -q -a -m two"));
    assert_eq!(two.a.shell("git status --porcelain"), "");
    assert_eq!(two.a.shell("git log --format=%s"), "two\none");
    two.a.shell("git checkout -q -b other HEAD~1");
    assert_eq!(two.b.text("f").unwrap(), "1\n");
    assert_eq!(two.b.shell("git rev-parse --abbrev-ref HEAD"), "other");
}

fn a_program_is_run_as_it_was_just_written(two: &Two<'_>) {
    two.given("program", b"#!/bin/sh\necho first\n");
    two.a.chmod("program", 0o755).unwrap();
    assert_eq!(two.b.shell("./program"), "first");
    two.a.put("program", b"#!/bin/sh\necho 2nd..\n").unwrap();
    assert_eq!(two.b.shell("./program"), "2nd..");
}

fn a_program_that_runs_cannot_be_written(two: &Two<'_>) {
    running(two);
    let opened = two.a.open("program", O_RDWR).map(drop);
    let emptied = two.a.open("program", O_WRONLY | O_TRUNC).map(drop);
    let truncated = two.a.truncate("program", 0);
    let ran_again = two.a.try_shell("./program 0");
    two.b.put("done", b"").unwrap();
    two.b.shell("while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done");
    assert_eq!([opened, emptied, truncated], [Err(rustix::io::Errno::TXTBSY); 3]);
    assert_eq!(ran_again.0, 0, "it runs on both sides: {}", ran_again.1);
    assert!(two.a.size("program").unwrap() > 0);
}

fn a_program_that_ended_is_written_at_once(two: &Two<'_>) {
    two.b.shell("cp /bin/true program && chmod 755 program");
    for turn in 0..6 {
        two.b.shell("./program");
        let fd = two.a.open("program", O_RDWR).unwrap_or_else(|error| panic!("{turn}: {error}"));
        two.a.close(fd).unwrap();
    }
}

fn a_program_that_was_closed_is_run_at_once(two: &Two<'_>) {
    two.b.shell("cp /bin/true program && chmod 755 program");
    for turn in 0..6 {
        let fd = two.a.open("program", O_RDWR).unwrap();
        two.a.close(fd).unwrap();
        let (status, said) = two.b.try_shell("./program");
        assert_eq!(status, 0, "{turn}: {said}");
    }
}

/// Starts a copy of sleep(1) in the directory through `b`.
fn running(two: &Two<'_>) {
    two.b.shell("cp /bin/sleep program && chmod 755 program");
    let line = "(./program 60 & own=$!; echo $own > pid; while ! test -e done; do sleep 0.01; done; kill $own; wait) \
        >/dev/null 2>&1 & while ! grep -q program /proc/$(cat pid)/cmdline; do sleep 0.01; done";
    two.b.shell(&format!("touch pid; {line}"));
}

fn a_program_that_is_written_cannot_be_run(two: &Two<'_>) {
    two.steady().shell("cp /bin/true program && chmod 755 program && ./program");
    two.b.sees(0, |b| b.try_shell("./program").0);
    let fd = two.a.open("program", O_RDWR).unwrap();
    let (status, said) = two.b.try_shell("./program");
    assert_eq!(status, 126, "{said}");
    two.a.close(fd).unwrap();
    // A local process of the home may be a moment too early.
    two.b.shell("until ./program; do sleep 0.01; done 2>/dev/null");
}

fn an_archive_that_was_unpacked_is_whole(two: &Two<'_>) {
    let make = "mkdir -p tree/sub && for n in 1 2 3 4 5 6; do echo $n > tree/$n; done \
        && dd if=/dev/urandom of=tree/sub/big bs=1000 count=300 status=none && ln -s ../1 tree/sub/link \
        && tar cf tree.tar tree && rm -r tree && tar xf tree.tar && (cd tree && cksum * */* 2>/dev/null)";
    let sums = two.a.shell(make);
    two.b.sees(sums, |b| b.try_shell("cd tree && cksum * */* 2>/dev/null").1);
    // What is packed here is what was unpacked there.
    let there = two.a.shell("tar cf - tree | cksum");
    two.b.sees(there, |b| b.shell("tar cf - tree | cksum"));
}

fn a_file_that_is_saved_by_renaming_is_never_half(two: &Two<'_>) {
    let whole = |turn: usize| format!("{turn:04} ").repeat(2000 + turn).into_bytes();
    two.given("config", &whole(0));
    let save = |a: &Actor| {
        for turn in 1..=15 {
            a.put("config.tmp", &whole(turn)).unwrap();
            a.rename("config.tmp", "config").unwrap();
        }
    };
    let read = |b: &Actor| {
        let mut last = 0;
        while last < 15 {
            let fd = b.open("config", O_RDONLY).unwrap();
            let bytes = b.all(fd).unwrap();
            b.close(fd).unwrap();
            let turn = std::str::from_utf8(&bytes[..4]).unwrap().parse().unwrap();
            assert!(bytes == whole(turn), "version {turn} is torn: {} bytes", bytes.len());
            assert!(turn >= last, "version {turn} after {last}");
            last = turn;
        }
    };
    two.together(save, read);
}

fn a_pid_file_is_taken_by_one(two: &Two<'_>) {
    // The noclobber way of shells: open with O_EXCL.
    let line = "set -C; for n in 1 2 3 4 5; do (echo $$ > pid-$n) 2>/dev/null && echo -n $n; done";
    let (a, b) = two.together(|a| a.try_shell(line).1, |b| b.try_shell(line).1);
    let mut all: Vec<_> = a.chars().chain(b.chars()).collect();
    all.sort_unstable();
    assert_eq!(all, ['1', '2', '3', '4', '5'], "one took {a}, the other {b}");
}

fn grep_finds_what_was_just_written(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    for turn in 0..3 {
        let (name, word) = (format!("d/f-{turn}"), format!("needle-{turn}"));
        assert_eq!(two.b.try_shell(&format!("grep -rl {word} d")).0, 1);
        two.a.put(&name, format!("hay {word} hay\n").as_bytes()).unwrap();
        two.b.sees((0, name), |b| b.try_shell(&format!("grep -rl {word} d")));
    }
}
