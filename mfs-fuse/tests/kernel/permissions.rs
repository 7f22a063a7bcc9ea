//! Permissions: groups, sticky directories, access control lists, umask, set-id bits.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::harness::{BOTH, Data, Mounted, sh, sh_as};

const USER: u32 = 54_321;
const OTHER: u32 = 54_322;

fn mode(path: std::path::PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("to change the mode");
}

#[test]
fn supplementary_groups_count() {
    let m = Mounted::new(Data::Asked);
    fs::write(m.path("f"), "for the group").unwrap();
    chown(m.path("f"), Some(0), Some(777)).unwrap();
    mode(m.path("f"), 0o640);
    let file = m.path("f").display().to_string();
    assert_eq!(sh_as(USER, "100,777", &format!("cat {file}")), (0, "for the group".to_owned()));
    assert_ne!(sh_as(USER, "100,778", &format!("cat {file}")).0, 0);
    let dir = m.path("d");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(0), Some(777)).unwrap();
    mode(dir.clone(), 0o770);
    let touch = format!("touch {}/made", dir.display());
    assert_eq!(sh_as(USER, "100,777", &touch).0, 0);
    assert_ne!(sh_as(USER, "100", &touch).0, 0);
    assert_eq!(fs::metadata(m.beside("d/made")).unwrap().uid(), USER);
}

#[test]
fn a_sticky_directory_keeps_what_belongs_to_others() {
    let m = Mounted::new(Data::Asked);
    fs::create_dir(m.path("tmp")).unwrap();
    mode(m.path("tmp"), 0o1777);
    let dir = m.path("tmp").display().to_string();
    assert_eq!(sh_as(USER, "100", &format!("echo mine > {dir}/f")).0, 0);
    assert_ne!(sh_as(OTHER, "100", &format!("rm -f {dir}/f")).0, 0);
    assert_ne!(sh_as(OTHER, "100", &format!("mv {dir}/f {dir}/g")).0, 0);
    assert_eq!(sh_as(USER, "100", &format!("rm {dir}/f")).0, 0);
}

#[test]
fn access_control_lists_are_applied() {
    let m = Mounted::new(Data::Asked);
    assert_eq!(sh("command -v setfacl").0, 0, "needs setfacl (package acl)");
    fs::write(m.path("f"), "listed").unwrap();
    chown(m.path("f"), Some(0), Some(777)).unwrap();
    mode(m.path("f"), 0o600);
    let file = m.path("f").display().to_string();
    assert_ne!(sh_as(USER, "100", &format!("cat {file}")).0, 0);
    assert_eq!(sh(&format!("setfacl -m u:{USER}:r,g::- {file}")).0, 0);
    assert_eq!(sh_as(USER, "100", &format!("cat {file}")), (0, "listed".to_owned()));
    assert_ne!(sh_as(OTHER, "777", &format!("cat {file}")).0, 0, "the owning group has nothing");
    // A default list takes the place of the umask.
    fs::create_dir(m.path("d")).unwrap();
    let dir = m.path("d").display().to_string();
    assert_eq!(sh(&format!("setfacl -d -m u::rwx,g::rwx,o::--- {dir}")).0, 0);
    assert_eq!(sh(&format!("umask 077; touch {dir}/made")).0, 0);
    assert_eq!(fs::metadata(m.path("d/made")).unwrap().mode() & 0o777, 0o660);
}

#[test]
fn the_umask_is_the_callers() {
    let m = Mounted::new(Data::Asked);
    let dir = m.path("").display().to_string();
    assert_eq!(sh(&format!("cd {dir}; umask 027; touch f; mkdir d; mkfifo p")).0, 0);
    let of = |name| fs::metadata(m.beside(name)).unwrap().mode() & 0o777;
    assert_eq!((of("f"), of("d"), of("p")), (0o640, 0o750, 0o640));
}

#[test]
fn a_write_takes_the_set_user_id_bit_away() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "x").unwrap();
        chown(m.path("f"), Some(USER), Some(100)).unwrap();
        mode(m.path("f"), 0o4777);
        let file = m.path("f").display().to_string();
        assert_eq!(sh_as(USER, "100", &format!("echo y >> {file}")).0, 0);
        assert_eq!(fs::metadata(m.beside("f")).unwrap().mode() & 0o7777, 0o777, "{data:?}");
    }
}

#[test]
fn who_may_not_read_may_not_open() {
    for data in BOTH {
        let m = Mounted::new(data);
        fs::write(m.path("f"), "secret").unwrap();
        mode(m.path("f"), 0o600);
        let file = m.path("f").display().to_string();
        // Root has it open, so that the kernel knows the file; that opens it to nobody else.
        let _open = fs::File::open(m.path("f")).unwrap();
        assert_ne!(sh_as(USER, "100", &format!("cat {file}")).0, 0, "{data:?}");
        mode(m.path("f"), 0o711);
        assert_ne!(sh_as(USER, "100", &format!("cat {file}")).0, 0);
    }
}
