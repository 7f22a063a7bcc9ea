//! Hard and symbolic links.

use libc::O_RDONLY;
use rustix::io::Errno;

use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        the_number_of_links_is_right_at_once,
        both_names_of_a_file_show_what_was_written,
        links_of_an_open_file_are_counted,
        a_symbolic_link_leads_where_it_was_turned_to,
        a_link_through_a_directory_that_was_turned,
        subdirectories_are_counted;
}

fn the_number_of_links_is_right_at_once(two: &Two<'_>) {
    two.given("f", b"");
    two.b.sees(1, |b| b.stat("f").unwrap().links);
    for (count, name) in [(2, "g"), (3, "h")] {
        two.a.link("f", name).unwrap();
        two.b.sees(count, |b| b.stat("f").unwrap().links);
        two.b.sees(Ok(two.b.stat("f").unwrap().ino), |b| b.stat(name).map(|stat| stat.ino));
    }
    two.a.unlink("f").unwrap();
    two.b.sees(2, |b| b.stat("h").unwrap().links);
    two.a.put("new", b"").unwrap();
    two.a.rename("new", "g").unwrap();
    two.b.sees(1, |b| b.stat("h").unwrap().links);
}

fn both_names_of_a_file_show_what_was_written(two: &Two<'_>) {
    two.given("f", b"one");
    two.maker().link("f", "g").unwrap();
    assert_eq!((two.b.text("f").unwrap(), two.b.text("g").unwrap()), ("one".into(), "one".into()));
    let fd = two.a.open("f", libc::O_WRONLY).unwrap();
    two.a.pwrite(fd, b"two and more", 0).unwrap();
    assert_eq!(two.b.text("g").unwrap(), "two and more");
    two.b.sees((Ok(12), Ok(12)), |b| (b.size("f"), b.size("g")));
    two.a.chmod("g", 0o600).unwrap();
    two.b.sees(0o600, |b| b.stat("f").unwrap().permissions());
}

fn links_of_an_open_file_are_counted(two: &Two<'_>) {
    two.given("f", b"");
    let fd = two.b.open("f", O_RDONLY).unwrap();
    two.a.link("f", "g").unwrap();
    two.b.sees(2, |b| b.fstat(fd).unwrap().links);
    two.a.unlink("f").unwrap();
    two.b.sees(1, |b| b.fstat(fd).unwrap().links);
    two.a.unlink("g").unwrap();
    two.b.sees(0, |b| b.fstat(fd).unwrap().links);
}

fn a_symbolic_link_leads_where_it_was_turned_to(two: &Two<'_>) {
    two.given("one", b"1");
    two.given("two", b"22");
    two.maker().symlink("one", "link").unwrap();
    assert_eq!(two.b.readlink("link").unwrap(), "one");
    assert_eq!(two.b.text("link").unwrap(), "1");
    for turn in 0..4 {
        let (target, size) = if turn % 2 == 0 { ("two", 2) } else { ("one", 1) };
        two.a.symlink(target, "link.new").unwrap();
        two.a.rename("link.new", "link").unwrap();
        two.b.sees(Ok(target.to_owned()), |b| b.readlink("link"));
        two.b.sees(Ok(size), |b| b.size("link"));
    }
    // By unlink and symlink, as ln -sfn does.
    two.a.unlink("link").unwrap();
    two.a.symlink("two", "link").unwrap();
    two.b.sees(Ok("22".to_owned()), |b| b.text("link"));
    two.a.unlink("two").unwrap();
    two.b.sees(Err(Errno::NOENT), |b| b.text("link"));
    two.b.sees(Ok("two".to_owned()), |b| b.readlink("link"));
}

/// As releases are switched: `current -> release-1` becomes `release-2`.
fn a_link_through_a_directory_that_was_turned(two: &Two<'_>) {
    for release in ["1", "2"] {
        two.maker().mkdir(release).unwrap();
        two.given(&format!("{release}/program"), release.as_bytes());
    }
    two.maker().symlink("1", "current").unwrap();
    assert_eq!(two.b.text("current/program").unwrap(), "1");
    two.a.symlink("2", "next").unwrap();
    two.a.rename("next", "current").unwrap();
    two.b.sees(Ok("2".to_owned()), |b| b.text("current/program"));
}

fn subdirectories_are_counted(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    let before = two.b.stat("d").unwrap().links;
    two.a.mkdir("d/sub").unwrap();
    // Some file systems do not count them; then nothing changes, for both.
    let after = two.a.stat("d").unwrap().links;
    two.b.sees(after, |b| b.stat("d").unwrap().links);
    two.a.rmdir("d/sub").unwrap();
    two.b.sees(before, |b| b.stat("d").unwrap().links);
}
