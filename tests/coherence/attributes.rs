//! Attributes: what one changes, the other sees and is held to at once.

use libc::{O_RDONLY, O_RDWR, O_WRONLY};
use rustix::io::Errno;

use super::stage::{Two, cases};

cases! {
    EVERYWHERE:
        a_changed_mode_is_seen_at_once,
        a_changed_owner_is_seen_at_once,
        set_times_are_seen_at_once,
        an_extended_attribute_is_seen_at_once,
        a_permission_taken_holds_at_once,
        a_permission_given_holds_at_once,
        a_directory_that_is_closed_is_closed_at_once,
        an_entry_of_an_acl_holds_at_once,
        a_write_clears_set_uid_for_both,
        a_directory_gets_its_group_from_the_set_gid_bit,
        file_system_figures_are_the_homes;
}

fn a_changed_mode_is_seen_at_once(two: &Two<'_>) {
    two.given("f", b"");
    two.b.sees(two.a.stat("f").unwrap().mode, |b| b.stat("f").unwrap().mode);
    let fd = two.b.open("f", O_RDONLY).unwrap();
    for mode in [0o600, 0o4755, 0o000, 0o1777] {
        two.a.chmod("f", mode).unwrap();
        two.b.sees(mode, |b| b.stat("f").unwrap().permissions());
        two.b.sees(mode, |b| b.fstat(fd).unwrap().permissions());
    }
}

fn a_changed_owner_is_seen_at_once(two: &Two<'_>) {
    two.given("f", b"");
    two.maker().symlink("f", "link").unwrap();
    for (user, group) in [(1000, 1001), (0, 0), (7, 8)] {
        two.a.chown("f", user, group).unwrap();
        two.b.sees((user, group), |b| {
            let stat = b.stat("link").unwrap();
            (stat.user, stat.group)
        });
    }
    two.b.sees((0, 0), |b| {
        let stat = b.lstat("link").unwrap();
        (stat.user, stat.group)
    });
}

fn set_times_are_seen_at_once(two: &Two<'_>) {
    two.given("f", b"text");
    for time in [(1_000_000_000, 123_456_789_u32), (1, 0), (4_000_000_000, 999_999_999)] {
        two.b.stat("f").unwrap();
        two.a.set_times("f", (time.0, time.1.into())).unwrap();
        two.b.sees(time, |b| b.stat("f").unwrap().modified);
    }
    let changed = two.b.stat("f").unwrap().changed;
    two.a.set_times("f", (5, 0)).unwrap();
    two.b.sees(true, |b| b.stat("f").unwrap().changed > changed);
}

fn an_extended_attribute_is_seen_at_once(two: &Two<'_>) {
    two.given("f", b"");
    two.b.sees(Err(Errno::NODATA), |b| b.attribute("f", "user.note"));
    for value in [b"one".as_slice(), b"a longer one", b""] {
        two.a.set_attribute("f", "user.note", value).unwrap();
        two.b.sees(Ok(value.to_vec()), |b| b.attribute("f", "user.note"));
    }
    two.a.remove_attribute("f", "user.note").unwrap();
    two.b.sees(Err(Errno::NODATA), |b| b.attribute("f", "user.note"));
}

fn a_permission_taken_holds_at_once(two: &Two<'_>) {
    two.given("f", b"secret");
    two.maker().chmod("f", 0o644).unwrap();
    two.b.as_user(1000);
    assert_eq!(two.b.text("f").unwrap(), "secret");
    two.a.chmod("f", 0o600).unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.open("f", O_RDONLY));
    two.b.sees(Err(Errno::ACCESS), |b| b.access("f"));
    two.a.chown("f", 1000, 1000).unwrap();
    two.b.sees(Ok("secret".to_owned()), |b| b.text("f"));
}

fn a_permission_given_holds_at_once(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().chmod("f", 0o600).unwrap();
    two.b.as_user(1000);
    assert_eq!(two.b.open("f", O_RDONLY), Err(Errno::ACCESS));
    two.a.chmod("f", 0o604).unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("f"));
    assert_eq!(two.b.open("f", O_WRONLY), Err(Errno::ACCESS));
    two.a.chmod("f", 0o606).unwrap();
    two.b.sees(Ok(()), |b| b.open("f", O_WRONLY).map(drop));
}

fn a_directory_that_is_closed_is_closed_at_once(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.given("d/f", b"text");
    two.b.as_user(1000);
    assert_eq!(two.b.text("d/f").unwrap(), "text");
    two.a.chmod("d", 0o700).unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.stat("d/f").map(drop));
    two.b.sees(Err(Errno::ACCESS), |b| b.text("d/f"));
    two.b.sees(Err(Errno::ACCESS), |b| b.list("d"));
    two.a.chmod("d", 0o711).unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("d/f"));
    two.b.sees(Err(Errno::ACCESS), |b| b.list("d"));
}

fn an_entry_of_an_acl_holds_at_once(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().chmod("f", 0o600).unwrap();
    two.b.as_user(1000);
    assert_eq!(two.b.open("f", O_RDONLY), Err(Errno::ACCESS));
    two.a.set_attribute("f", "system.posix_acl_access", &acl(1000, 4)).unwrap();
    two.b.sees(Ok("text".to_owned()), |b| b.text("f"));
    two.a.set_attribute("f", "system.posix_acl_access", &acl(1000, 0)).unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.open("f", O_RDONLY));
    two.a.remove_attribute("f", "system.posix_acl_access").unwrap();
    two.b.sees(Err(Errno::ACCESS), |b| b.open("f", O_RDONLY));
}

/// rw for the owner, nothing for others, and `bits` for one user (linux/posix_acl_xattr.h).
fn acl(user: u32, bits: u16) -> Vec<u8> {
    const ANY: u32 = u32::MAX;
    let entries = [(1, 6, ANY), (2, bits, user), (4, 0, ANY), (16, 7, ANY), (32, 0, ANY)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(bits));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

fn a_write_clears_set_uid_for_both(two: &Two<'_>) {
    two.given("f", b"text");
    two.maker().chmod("f", 0o6777).unwrap();
    two.b.sees(0o6777, |b| b.stat("f").unwrap().permissions());
    two.a.sees(0o6777, |a| a.stat("f").unwrap().permissions());
    two.a.as_user(1000);
    let fd = two.a.open("f", O_RDWR).unwrap();
    two.a.pwrite(fd, b"T", 0).unwrap();
    assert_eq!(two.a.fstat(fd).unwrap().permissions(), 0o777);
    two.b.sees(0o777, |b| b.stat("f").unwrap().permissions());
}

fn a_directory_gets_its_group_from_the_set_gid_bit(two: &Two<'_>) {
    two.maker().mkdir("d").unwrap();
    two.b.stat("d").unwrap();
    two.a.chown("d", 0, 77).unwrap();
    two.a.chmod("d", 0o2777).unwrap();
    two.b.put("d/f", b"").unwrap();
    two.b.mkdir("d/sub").unwrap();
    assert_eq!(two.b.stat("d/f").unwrap().group, 77);
    assert_eq!(two.b.stat("d/sub").unwrap().permissions() & 0o2000, 0o2000);
    two.a.sees(Ok(77), |a| a.stat("d/sub").map(|stat| stat.group));
}

fn file_system_figures_are_the_homes(two: &Two<'_>) {
    // Sizes that do not change while the laboratory runs: of blocks, in all, of names.
    let figures = |actor: &super::actor::Actor| actor.shell("stat -f -c '%S %b %l' .");
    assert_eq!(figures(&two.a), figures(&two.b));
}
