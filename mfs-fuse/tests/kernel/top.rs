//! The top of a mount: nodes, numbers, per-process entries, `magic`, selections, figures.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::harness::{Data, Mounted, sh, sh_as};

#[test]
fn the_nodes_are_listed_and_nothing_else_is() {
    let m = Mounted::new(Data::Asked);
    let mut names: Vec<_> = fs::read_dir(m.top())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["n1", "n2", "n3"], "the dead one too");
    assert_eq!(fs::metadata(m.top()).unwrap().ino(), 1);
    for name in ["n1", "n2", "n3"] {
        assert!(fs::metadata(m.top().join(name)).unwrap().is_dir(), "{name}");
    }
    assert!(fs::metadata(m.top().join("n4")).is_err());
}

#[test]
fn numbers_and_per_process_entries_are_links() {
    let m = Mounted::new(Data::Asked);
    let link = |name: &str| fs::read_link(m.top().join(name)).unwrap().into_os_string();
    assert_eq!(link("301"), "n1");
    assert_eq!(link("302"), "n2");
    for name in ["here", "home", "lastexec", "selected"] {
        assert_eq!(link(name), "n1", "{name}");
    }
    assert!(fs::symlink_metadata(m.top().join("999")).is_err());
    fs::write(m.path("f"), "found").unwrap();
    assert_eq!(fs::read_to_string(m.top().join("here/f")).unwrap(), "found");
    assert_eq!(fs::read_to_string(m.top().join("301/f")).unwrap(), "found");
}

#[test]
fn a_node_that_cannot_be_reached_is_said_to_be_down() {
    let m = Mounted::new(Data::Asked);
    let down = fs::read_dir(m.top().join("n2")).unwrap_err();
    assert_eq!(down.raw_os_error(), Some(libc::EHOSTDOWN));
    let down = fs::metadata(m.top().join("n2/etc")).unwrap_err();
    assert_eq!(down.raw_os_error(), Some(libc::EHOSTDOWN));
}

#[test]
fn nothing_is_made_at_the_top_and_nothing_moves_between_nodes() {
    let m = Mounted::new(Data::Asked);
    let errno = |e: std::io::Error| e.raw_os_error();
    assert_eq!(fs::create_dir(m.top().join("new")).map_err(errno), Err(Some(libc::EPERM)));
    assert_eq!(fs::write(m.top().join("new"), "").map_err(errno), Err(Some(libc::EPERM)));
    assert_eq!(fs::remove_dir(m.top().join("n1")).map_err(errno), Err(Some(libc::EPERM)));
    fs::write(m.path("f"), "").unwrap();
    let moved = fs::rename(m.path("f"), m.top().join("f"));
    assert_eq!(moved.map_err(errno), Err(Some(libc::EPERM)));
}

#[test]
fn df_answers_at_once() {
    let m = Mounted::new(Data::Asked);
    assert_eq!(rustix::fs::statvfs(m.top()).unwrap().f_blocks, 0);
    assert!(rustix::fs::statvfs(m.path("")).unwrap().f_blocks > 0, "of the node's file system");
}

#[test]
fn a_selection_is_for_the_own_processes() {
    let m = Mounted::new(Data::Asked);
    let top = m.top().display().to_string();
    assert_eq!(sh("command -v setfattr").0, 0, "needs setfattr (package attr)");
    let select = |node: &str| format!("setfattr -n system.mfs.selected -v \"$$ {node}\" {top}");
    let show = format!("readlink {top}/selected");
    let (_, text) =
        sh(&format!("{}; {show}; sh -c '{show}'; {}; {show}", select("n2"), select("")));
    assert_eq!(text, "n2\nn2\nn1\n", "for the shell and its children, until it is cleared");
    assert_eq!(sh(&show).1, "n1\n", "for nobody else");
    assert_eq!(sh_as(54_321, "100", &format!("{}; {show}", select("n3"))).1, "n3\n");
    let foreign = format!("setfattr -n system.mfs.selected -v \"1 n2\" {top}");
    assert_ne!(sh_as(54_321, "100", &foreign).0, 0, "of a process of root");
}

#[test]
fn magic_makes_files_here_and_shows_them_to_their_maker() {
    let m = Mounted::new(Data::Asked);
    let magic = m.top().join("magic");
    fs::write(magic.join("made"), "by me").unwrap();
    assert_eq!(fs::read_to_string(m.beside("made")).unwrap(), "by me");
    assert_eq!(fs::read_to_string(magic.join("made")).unwrap(), "by me");
    let names: Vec<_> = fs::read_dir(&magic).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["made"]);
    let cat = format!("cat {}/made 2>/dev/null", magic.display());
    assert_eq!(sh(&cat).1, "by me", "what a process made is there for its children");
    fs::remove_file(magic.join("made")).unwrap();
    assert!(!m.beside("made").exists());
    assert!(fs::create_dir(magic.join("d")).is_err(), "a directory has one place");
}

#[test]
fn the_figures_of_the_mount_are_an_attribute_of_its_root() {
    let m = Mounted::new(Data::Asked);
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::getxattr(m.top(), "mfs.stats", &mut value[..]).unwrap();
    let text = String::from_utf8(value[..length].to_vec()).unwrap();
    assert!(text.starts_with('{') && text.contains("\"mfs_mount_requests_total\":"), "{text}");
    let mut names = [0_u8; 64];
    assert_eq!(rustix::fs::listxattr(m.top(), &mut names).unwrap(), 0);
}
