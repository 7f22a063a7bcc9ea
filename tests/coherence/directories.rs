//! Paths and directories: components that are replaced, and processes that stand in what is moved or removed.

use libc::{O_CREAT, O_RDONLY};
use rustix::io::Errno;

use super::outcome::{self, guarded};
use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_replaced_component_leads_to_the_new_tree,
        a_renamed_ancestor_takes_its_tree_along,
        a_working_directory_moves_with_its_ancestor,
        a_removed_working_directory_takes_no_files,
        a_removed_working_directory_is_empty,
        a_directory_is_not_empty_once_the_other_filled_it,
        a_directory_is_empty_once_the_other_cleared_it,
        a_directory_replaced_by_rename_is_the_new_one,
        a_file_that_became_a_directory_is_one,
        a_directory_found_at_a_new_place_can_be_moved_on;
    BETWEEN_MOUNTS:
        a_moved_directory_is_found_whatever_else_is_moved;
}

fn a_replaced_component_leads_to_the_new_tree(two: &Two<'_>) {
    for (directory, text) in [("d", "old"), ("new", "the new one")] {
        two.maker().mkdir(directory).unwrap();
        two.maker().mkdir(&format!("{directory}/sub")).unwrap();
        two.given(&format!("{directory}/sub/f"), text.as_bytes());
    }
    assert_eq!(two.b.text("d/sub/f").unwrap(), "old");
    two.a.rename("d", "away").unwrap();
    two.a.rename("new", "d").unwrap();
    two.b.sees(Ok("the new one".to_owned()), |b| b.text("d/sub/f"));
    two.b.sees(Ok("old".to_owned()), |b| b.text("away/sub/f"));
}

fn a_renamed_ancestor_takes_its_tree_along(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().mkdir("d/sub").unwrap();
    two.given("d/sub/f", b"text");
    let fd = two.b.open("d/sub/f", O_RDONLY).unwrap();
    two.a.rename("d", "e").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.stat("d/sub/f").map(drop));
    two.b.sees(Ok(4), |b| b.size("e/sub/f"));
    assert_eq!(two.b.all(fd).unwrap(), b"text");
}

fn a_working_directory_moves_with_its_ancestor(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().mkdir("d/sub").unwrap();
    two.given("d/sub/f", b"text");
    two.b.chdir("d/sub").unwrap();
    assert_eq!(two.b.text("./f").unwrap(), "text");
    two.a.rename("d", "e").unwrap();
    assert_eq!(two.b.text("./f").unwrap(), "text");
    two.b.put("./g", b"1").unwrap();
    two.a.sees(Ok(1), |a| a.size("e/sub/g"));
    two.b.sees(Ok(4), |b| b.size("e/sub/f"));
    assert_eq!(two.b.stat("./..").unwrap().ino, two.b.stat("e").unwrap().ino);
    let own = format!("{}/e/sub", two.b.base);
    two.b.sees(Ok(own), super::actor::Actor::working_directory);
}

fn a_removed_working_directory_takes_no_files(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.b.chdir("d").unwrap();
    two.a.rmdir("d").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.open("./f", O_CREAT).map(drop));
    two.b.sees(Err(Errno::NOENT), |b| b.stat("d").map(drop));
    two.a.mkdir("d").unwrap();
    two.b.sees(Ok(()), |b| b.access("d"));
    assert_eq!(two.b.open("./f", O_CREAT), Err(Errno::NOENT), "it is another directory");
    two.b.put("d/f", b"").unwrap();
}

fn a_removed_working_directory_is_empty(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().chmod("d", 0o755).unwrap();
    two.b.chdir("d").unwrap();
    two.a.rmdir("d").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.stat("d").map(drop));
    assert_eq!(two.b.list("."), Err(Errno::NOENT), "what readdir(3) takes for the end");
    assert_eq!(two.b.stat(".").unwrap().links, 0);
    two.b.chmod(".", 0o700).unwrap();
    two.b.set_times(".", (1, 2)).unwrap();
    let stat = two.b.stat(".").unwrap();
    assert_eq!((stat.permissions(), stat.modified), (0o700, (1, 2)));
    assert_eq!(two.b.attribute(".", "user.x"), Err(Errno::NODATA));
    assert_eq!(two.b.stat("./x").map(drop), Err(Errno::NOENT));
    assert_eq!(two.b.mkdir("./x"), Err(Errno::NOENT));
    // Who goes there by the name finds what has the name now.
    two.maker().mkdir("d").unwrap();
    two.b.sees(Ok(vec![]), |b| b.list("d"));
}

fn a_directory_is_not_empty_once_the_other_filled_it(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    assert_eq!(two.b.list("d").unwrap(), [""; 0]);
    two.a.put("d/f", b"").unwrap();
    assert_eq!(two.b.rmdir("d"), Err(Errno::NOTEMPTY));
    two.maker().mkdir("e").unwrap();
    assert_eq!(two.b.rename("e", "d"), Err(Errno::NOTEMPTY));
}

fn a_directory_is_empty_once_the_other_cleared_it(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.given("d/f", b"");
    assert_eq!(two.b.rmdir("d"), Err(Errno::NOTEMPTY));
    two.a.unlink("d/f").unwrap();
    assert_eq!(two.b.rmdir("d"), Ok(()));
    two.a.sees(Err(Errno::NOENT), |a| a.stat("d").map(drop));
}

fn a_directory_replaced_by_rename_is_the_new_one(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.maker().mkdir("new").unwrap();
    two.given("new/f", b"1");
    assert_eq!(two.b.list("d").unwrap(), [""; 0]);
    assert_eq!(two.b.stat("d/f").map(drop), Err(Errno::NOENT));
    two.a.rename("new", "d").unwrap();
    two.b.sees(Ok(vec!["f".to_owned()]), |b| b.list("d"));
    two.b.sees(Ok(1), |b| b.size("d/f"));
}

fn a_file_that_became_a_directory_is_one(two: &Two<'_>) {
    two.given("x", b"file");
    assert_eq!(two.b.text("x").unwrap(), "file");
    two.a.unlink("x").unwrap();
    two.a.mkdir("x").unwrap();
    two.a.put("x/f", b"below").unwrap();
    two.b.sees(Ok("below".to_owned()), |b| b.text("x/f"));
    two.a.unlink("x/f").unwrap();
    two.a.rmdir("x").unwrap();
    two.a.put("x", b"again").unwrap();
    two.b.sees(Ok("again".to_owned()), |b| b.text("x"));
    two.b.sees(Err(Errno::NOTDIR), |b| b.stat("x/f").map(drop));
}

/// The rename itself is the first to find it where it is now.
fn a_directory_found_at_a_new_place_can_be_moved_on(two: &Two<'_>) {
    for name in ["d", "e", "f", "d/sub", "d/other"] {
        two.maker().mkdir(name).unwrap();
    }
    two.given("d/sub/file", b"text");
    two.b.chdir("d/sub").unwrap();
    two.b.access("d/other").unwrap();
    two.a.rename("d/sub", "e/sub").unwrap();
    two.a.rename("d/other", "e/other").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.access("d/sub"));
    two.b.rename("e/sub", "f/sub").unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("f/sub/file"));
    assert_eq!(two.b.text("./file").unwrap(), "text");
    two.a.sees(Ok("text".to_owned()), |a| a.text("f/sub/file"));
    // In place of one that is empty, which is found there first, too.
    two.b.rename("f/sub", "e/other").unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("e/other/file"));
    assert_eq!(two.b.text("./file").unwrap(), "text");
    assert_eq!(two.b.stat(".").unwrap().ino, two.b.stat("e/other").unwrap().ino);
    let own = format!("{}/e/other", two.b.base);
    two.b.sees(Ok(own), super::actor::Actor::working_directory);
}

fn a_moved_directory_is_found_whatever_else_is_moved(two: &Two<'_>) {
    for name in ["d", "e", "p", "q", "d/sub"] {
        two.maker().mkdir(name).unwrap();
    }
    two.given("d/sub/file", b"text");
    two.given("p/x", b"");
    let restless = "\
import os
while not os.path.exists('done'):
    for turn in range(10):
        os.rename('p/x', 'q/x')
        os.rename('q/x', 'p/x')
";
    two.given("restless.py", restless.as_bytes());
    let beside = two.beside_b();
    std::thread::scope(|threads| {
        let restless = threads.spawn(|| guarded(|| beside.shell("python3 restless.py")));
        let found = guarded(|| {
            for turn in 0..20 {
                let (from, to) = if turn % 2 == 0 { ("d", "e") } else { ("e", "d") };
                two.a.rename(&format!("{from}/sub"), &format!("{to}/sub")).unwrap();
                assert_eq!(two.b.text(&format!("{to}/sub/file")).as_deref(), Ok("text"), "{turn}");
            }
        });
        two.a.put("done", b"").unwrap();
        outcome::fine(restless.join().expect("its panics are caught"));
        outcome::fine(found);
    });
}
