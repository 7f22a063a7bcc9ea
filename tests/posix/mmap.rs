//! mmap(2), private and shared.

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_shared_mapping_writes_the_file", a_shared_mapping_writes_the_file),
    ("a_private_mapping_does_not", a_private_mapping_does_not),
    ("writes_of_the_same_node_are_seen", writes_of_the_same_node_are_seen),
    ("sqlite_in_wal_mode", sqlite_in_wal_mode),
];

fn a_shared_mapping_writes_the_file(place: &Place<'_>) {
    place.python(
        "import mmap\nopen('f', 'wb').write(b'a' * 10000)\nf = open('f', 'r+b')\n\
         m = mmap.mmap(f.fileno(), 0)\nassert m[9999] == 97\nm[5000:5005] = b'hello'\n\
         m.flush()\nm.close()\nf.close()\nassert open('f', 'rb').read()[5000:5005] == b'hello'",
    );
    let home = std::fs::read(place.at_home("f")).unwrap();
    assert_eq!((home.len(), &home[4999..5006]), (10_000, &b"ahelloa"[..]));
}

fn a_private_mapping_does_not(place: &Place<'_>) {
    place.python(
        "import mmap\nopen('f', 'wb').write(b'a' * 5000)\nf = open('f', 'r+b')\n\
         m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)\nm[0:1] = b'z'\nassert m[0:2] == b'za'\nm.close()",
    );
    assert_eq!(std::fs::read(place.at_home("f")).unwrap(), vec![b'a'; 5000]);
}

fn writes_of_the_same_node_are_seen(place: &Place<'_>) {
    place.python(
        "import mmap, os\nopen('f', 'wb').write(b'a' * 4096)\nf = open('f', 'r+b')\n\
         m = mmap.mmap(f.fileno(), 0)\nassert m[0] == 97\nos.pwrite(f.fileno(), b'xyz', 0)\nassert m[0:3] == b'xyz', m[0:3]",
    );
}

/// WAL keeps its index in a shared mapping.
fn sqlite_in_wal_mode(place: &Place<'_>) {
    place.run(
        "sqlite3 db 'pragma journal_mode=wal; create table t(a); insert into t values (1), (2), (3);' >/dev/null",
    );
    assert_eq!(place.run("sqlite3 db 'select sum(a) from t; pragma integrity_check;'"), "6\nok");
    assert_eq!(place.run_at_home("sqlite3 db 'select sum(a) from t;'"), "6");
}
