//! The credentials in images. Whoever makes images says what the restored processes may do, and CRIU, which is
//! root, believes it: images of an ordinary user's job in which anybody else appears, or any capability, are
//! refused. Jobs of root come only from nodes whose root is trusted.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use mfs::types::Caller;

use super::image::{Value, entries, fields};

/// In `core_entry` (CRIU's images/core.proto): what belongs to a thread.
const THREAD: u64 = 5;

/// In `thread_core_entry`: its credentials.
const CREDENTIALS: u64 = 10;

/// In `creds_entry` (images/creds.proto): user ids and group ids, real, effective, saved, and of files.
const USERS: [u64; 4] = [1, 3, 5, 7];
const GROUPS: [u64; 4] = [2, 4, 6, 8];
/// The same: capabilities, inheritable, permitted, effective and ambient, and the bits that keep them.
const POWERS: [u64; 5] = [9, 10, 11, 13, 19];
/// The same: supplementary groups.
const SUPPLEMENTARY: u64 = 14;

/// Images from before CRIU kept credentials with the thread, which it still reads.
const OLD: &str = "creds-";

/// Refuses images that would give the user's job more than the user has.
///
/// # Errors
/// A sentence; the images cannot be read, or are none.
pub(super) fn check(images: &Path, user: &Caller) -> anyhow::Result<()> {
    if user.uid == 0 {
        return Ok(());
    }
    let mut threads = 0;
    for entry in fs::read_dir(images)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        ensure!(!name.starts_with(OLD), "its images are of a kind that is not taken");
        if name.starts_with("core-") && name.ends_with(".img") {
            let image = fs::read(entry.path())?;
            ensure!(
                is_theirs(&image, user).with_context(|| format!("{name} is no image"))?,
                "its images would give user {} the rights of others",
                user.uid
            );
            threads += 1;
        }
    }
    ensure!(threads > 0, "there are no processes in its images");
    Ok(())
}

/// Whether a thread is the user's and nobody else's; `None`: it is no image.
fn is_theirs(image: &[u8], user: &Caller) -> Option<bool> {
    let mut threads = 0;
    for entry in entries(image) {
        for field in fields(entry?) {
            let field = field?;
            if field.number != THREAD {
                continue;
            }
            let Value::Bytes(thread) = field.value else { return None };
            let mut seen = 0;
            for field in fields(thread) {
                let field = field?;
                if field.number == CREDENTIALS {
                    let Value::Bytes(credentials) = field.value else { return None };
                    if !are_theirs(credentials, user)? {
                        return Some(false);
                    }
                    seen += 1;
                }
            }
            // Two messages in one field would be taken together.
            if seen != 1 {
                return None;
            }
            threads += 1;
        }
    }
    (threads == 1).then_some(true)
}

fn are_theirs(credentials: &[u8], user: &Caller) -> Option<bool> {
    let mut ids = 0;
    for field in fields(credentials) {
        let field = field?;
        let number = field.number;
        let is_user = USERS.contains(&number);
        let is_known = is_user
            || GROUPS.contains(&number)
            || POWERS.contains(&number)
            || number == SUPPLEMENTARY;
        if !is_known {
            continue;
        }
        // Numbers can also be packed, which CRIU does not do.
        let Value::Number(value) = field.value else { return None };
        let is_theirs = if is_user {
            ids += 1;
            value == u64::from(user.uid)
        } else if GROUPS.contains(&number) {
            ids += 1;
            value == u64::from(user.gid)
        } else if number == SUPPLEMENTARY {
            let mut groups = user.groups.iter().chain([&user.gid]);
            groups.any(|group| value == u64::from(*group))
        } else {
            value == 0
        };
        if !is_theirs {
            return Some(false);
        }
    }
    // One that is left out would be 0: root.
    (ids == USERS.len() + GROUPS.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::super::image::{HEAD, put_bytes, put_entry, put_number};
    use super::*;

    fn user() -> Caller {
        Caller::user(1000, 1001, &[44])
    }

    /// Those that CRIU writes for that user.
    fn usual() -> Vec<(u64, u64)> {
        let ids = (1..=8).map(|number| (number, if number % 2 == 1 { 1000 } else { 1001 }));
        let powers =
            [(9, 0), (9, 0), (10, 0), (11, 0), (12, 511), (13, 0), (14, 44), (14, 1001), (19, 0)];
        ids.chain(powers).collect()
    }

    fn image(credentials: &[(u64, u64)]) -> Vec<u8> {
        let mut inner = Vec::new();
        credentials.iter().for_each(|(number, value)| put_number(&mut inner, *number, *value));
        let mut thread = Vec::new();
        put_number(&mut thread, 3, 0);
        put_bytes(&mut thread, CREDENTIALS, &inner);
        let mut entry = Vec::new();
        put_number(&mut entry, 1, 0);
        put_bytes(&mut entry, THREAD, &thread);
        let mut image = vec![0; HEAD];
        put_entry(&mut image, &entry);
        image
    }

    #[test]
    fn nobody_comes_as_somebody_else() {
        assert_eq!(is_theirs(&image(&usual()), &user()), Some(true));
        for number in (1..=11).chain([13, 14, 19]) {
            let mut forged = usual();
            // A field that comes twice has the last value.
            forged.push((number, 5));
            assert_ne!(is_theirs(&image(&forged), &user()), Some(true), "field {number}");
            let root =
                usual().into_iter().map(|(n, value)| (n, if n == number { 0 } else { value }));
            let root: Vec<_> = root.collect();
            if number <= 8 {
                assert_eq!(is_theirs(&image(&root), &user()), Some(false), "field {number}");
                let fewer: Vec<_> = usual().into_iter().filter(|(n, _)| *n != number).collect();
                assert_eq!(is_theirs(&image(&fewer), &user()), None, "field {number}");
            }
        }
        assert_eq!(is_theirs(&image(&[]), &user()), None);
        assert_eq!(is_theirs(&[0; HEAD], &user()), None);
    }

    #[test]
    fn a_directory_is_looked_through() {
        let images = tempfile::tempdir().unwrap();
        assert!(check(images.path(), &user()).is_err());
        fs::write(images.path().join("core-1.img"), image(&usual())).unwrap();
        assert!(check(images.path(), &user()).is_ok());
        assert!(check(images.path(), &Caller::user(7, 7, &[])).is_err());
        fs::write(images.path().join("creds-1.img"), b"").unwrap();
        assert!(check(images.path(), &user()).is_err());
    }
}
