//! What was open is opened again by an export that knows nothing of it, as after a restart of mfsd:
//! whatever its permissions are by then, and for nobody who cannot show that it had it.

use mfs::export::{Abilities, ExportSettings, OpenMap};
use mfs::types::op::{Create, Open, Opened, Write};
use mfs::types::{Access, Caller, Errno, OpenFlags, OpenProof};

use crate::identity::mode;
use crate::lab::{Lab, name, needs_root, open_export, open_id, user};

/// The directory of a lab served by another process, as far as this one can tell.
struct Restarted {
    export: mfs::export::Export,
    opens: OpenMap,
}

impl Restarted {
    fn of(lab: &Lab) -> Self {
        let export = open_export(&ExportSettings::of(lab.dir.path()), Abilities::ALL);
        let opens = OpenMap::new(export.budget(), 50);
        Self { export, opens }
    }

    fn open(&self, caller: &Caller, open: &Open) -> Result<Opened, Errno> {
        self.export.call(caller, open.clone(), &self.opens)
    }
}

/// A file of user 1001 that it has open for writing, and what opens it again.
fn made_read_only(lab: &Lab) -> (Opened, Open) {
    lab.set(&Caller::root(), &lab.root(), mode(0o777)).unwrap();
    let create = Create {
        parent: lab.root(),
        name: name("f"),
        open: open_id(1),
        mode: 0o444,
        access: Access::Write,
        flags: OpenFlags::EXCLUSIVE | OpenFlags::APPEND,
    };
    let opened = lab.call(&user(1001), create).unwrap();
    let again = Open {
        file: opened.entry.file.clone(),
        open: open_id(1),
        access: Access::Write,
        flags: OpenFlags::APPEND,
        proof: opened.proof.clone(),
    };
    (opened, again)
}

#[test]
fn a_file_that_was_open_is_opened_again_whatever_its_permissions_are_now() {
    needs_root();
    let lab = Lab::new();
    let (opened, again) = made_read_only(&lab);
    // It is not even its user's any more.
    std::os::unix::fs::chown(lab.path("f"), Some(0), Some(0)).unwrap();
    let restarted = Restarted::of(&lab);
    let taken = restarted.open(&user(1001), &again).unwrap();
    assert_eq!(taken.proof, opened.proof);
    let write =
        Write { open: open_id(1), offset: 0, data: (&b"on"[..]).into(), pages: false, known: None };
    restarted.export.call(&user(1001), write, &restarted.opens).unwrap();
    assert_eq!(std::fs::read(lab.path("f")).unwrap(), b"on");
}

#[test]
fn a_program_that_runs_is_opened_again() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("p"), "#!/bin/true").unwrap();
    let file = lab.walk("p").unwrap().file;
    lab.set(&Caller::root(), &file, mode(0o111)).unwrap();
    let flags = OpenFlags::EXECUTE;
    let first = Open { file, open: open_id(1), access: Access::Read, flags, proof: None };
    let opened = lab.call(&user(1001), first.clone()).unwrap();
    lab.set(&Caller::root(), &first.file, mode(0)).unwrap();
    let restarted = Restarted::of(&lab);
    assert_eq!(restarted.open(&user(1001), &first), Err(Errno::Access));
    restarted.open(&user(1001), &Open { proof: opened.proof, ..first }).unwrap();
}

#[test]
fn a_program_that_runs_is_not_written_and_what_is_written_does_not_run() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("p"), "#!/bin/true").unwrap();
    let file = lab.walk("p").unwrap().file;
    lab.set(&Caller::root(), &file, mode(0o777)).unwrap();
    let (access, flags) = (Access::Read, OpenFlags::EXECUTE);
    let run = Open { file: file.clone(), open: open_id(1), access, flags, proof: None };
    let (access, flags) = (Access::Write, OpenFlags::TRUNCATE);
    let write = Open { file, open: open_id(2), access, flags, proof: None };
    let opened = lab.call(&user(1001), run.clone()).unwrap();
    assert_eq!(lab.call(&user(1002), write.clone()), Err(Errno::TxtBsy));
    assert_eq!(std::fs::read(lab.path("p")).unwrap(), b"#!/bin/true", "it was not emptied");
    // After a restart it goes on running, and is not written either.
    let restarted = Restarted::of(&lab);
    let again = Open { proof: opened.proof, ..run.clone() };
    restarted.open(&user(1001), &again).unwrap();
    assert_eq!(restarted.open(&user(1002), &write), Err(Errno::TxtBsy));
    // Whoever was first after the restart, nobody loses what was open before it.
    let restarted = Restarted::of(&lab);
    restarted.open(&user(1002), &write).unwrap();
    restarted.open(&user(1001), &again).unwrap();
    let other = Open { open: open_id(3), ..run };
    assert_eq!(restarted.open(&user(1001), &other), Err(Errno::TxtBsy));
}

#[test]
fn what_a_local_process_writes_does_not_run() {
    needs_root();
    let lab = Lab::new();
    std::fs::write(lab.path("p"), "#!/bin/true").unwrap();
    let file = lab.walk("p").unwrap().file;
    lab.set(&Caller::root(), &file, mode(0o755)).unwrap();
    let (access, flags) = (Access::Read, OpenFlags::EXECUTE);
    let run = Open { file, open: open_id(1), access, flags, proof: None };
    let local = std::fs::File::options().write(true).open(lab.path("p")).unwrap();
    assert_eq!(lab.call(&user(1001), run.clone()), Err(Errno::TxtBsy));
    drop(local);
    lab.call(&user(1001), run).unwrap();
}

#[test]
fn what_was_never_open_is_decided_by_permission() {
    needs_root();
    let lab = Lab::new();
    let (_, again) = made_read_only(&lab);
    std::fs::write(lab.path("other"), "").unwrap();
    let other = lab.walk("other").unwrap().file;
    let forged = OpenProof::from_bytes(vec![7; 16].into());
    let restarted = Restarted::of(&lab);
    for (whose, caller, open) in [
        ("nobody's", user(1001), Open { proof: None, ..again.clone() }),
        ("invented", user(1001), Open { proof: forged, ..again.clone() }),
        ("of another user", user(1002), again.clone()),
        ("of another file", user(1001), Open { file: other, ..again.clone() }),
        ("for another access", user(1001), Open { access: Access::ReadWrite, ..again.clone() }),
        ("with other flags", user(1001), Open { flags: OpenFlags::empty(), ..again.clone() }),
        (
            "to truncate",
            user(1001),
            Open { flags: OpenFlags::APPEND | OpenFlags::TRUNCATE, ..again.clone() },
        ),
    ] {
        assert_eq!(restarted.open(&caller, &open), Err(Errno::Access), "a proof {whose}");
    }
    // An export that shows something else knows neither the file nor the proof.
    let hiding =
        ExportSettings { hidden_paths: vec![lab.path("x")], ..ExportSettings::of(lab.dir.path()) };
    let export = open_export(&hiding, Abilities::ALL);
    let opens = OpenMap::new(export.budget(), 50);
    assert_eq!(export.call(&user(1001), again, &opens), Err(Errno::Stale));
}
