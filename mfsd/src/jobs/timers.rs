//! Periodic timers in images. A timer (timerfd_create(2)) that has expired and was not read yet is dumped with
//! nothing left until it expires, and CRIU restores it disarmed: the program would wait for ever
//! (checkpoint-restore/criu issue 3162). Such a timer is given a nanosecond. A field that is written twice has
//! the last value.

use std::path::Path;
use std::{fs, io};

use super::image::{HEAD, Value, entries, fields, put_bytes, put_entry, put_number};

/// The image of all open files.
const FILE: &str = "files.img";

/// In `file_entry` (CRIU's images/fdinfo.proto): the timer.
const TIMER: u64 = 12;

/// In `timerfd_entry` (images/timerfd.proto): what is left until it expires, and its interval.
const SECONDS_LEFT: u64 = 7;
const NANOSECONDS_LEFT: u64 = 8;
const INTERVAL: [u64; 2] = [9, 10];

/// Mends the timers in images.
///
/// # Errors
/// The image cannot be read or written, or is none.
pub(super) fn mend(images: &Path) -> io::Result<()> {
    let path = images.join(FILE);
    let image = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        image => image?,
    };
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "files.img is not as it should be");
    match mended(&image).ok_or_else(strange)? {
        Some(mended) => fs::write(path, mended),
        None => Ok(()),
    }
}

/// The same image with its timers mended; `Some(None)`: nothing needs to be. `None`: it is no image.
fn mended(image: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut out = image.get(..HEAD)?.to_vec();
    let mut is_changed = false;
    for entry in entries(image) {
        let entry = entry?;
        let changed = mended_entry(entry)?;
        is_changed |= changed.is_some();
        put_entry(&mut out, changed.as_deref().unwrap_or(entry));
    }
    Some(is_changed.then_some(out))
}

fn mended_entry(entry: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut out = Vec::with_capacity(entry.len() + 2);
    let mut is_changed = false;
    for field in fields(entry) {
        let field = field?;
        match field.value {
            Value::Bytes(timer) if field.number == TIMER && is_lost(timer)? => {
                let mut timer = timer.to_vec();
                put_number(&mut timer, NANOSECONDS_LEFT, 1);
                put_bytes(&mut out, TIMER, &timer);
                is_changed = true;
            }
            _ => out.extend(field.whole),
        }
    }
    Some(is_changed.then_some(out))
}

/// Whether nothing is left until a periodic timer expires.
fn is_lost(timer: &[u8]) -> Option<bool> {
    let (mut left, mut interval) = (0, 0);
    for field in fields(timer) {
        let field = field?;
        if let Value::Number(value) = field.value {
            match field.number {
                SECONDS_LEFT | NANOSECONDS_LEFT => left |= value,
                number if INTERVAL.contains(&number) => interval |= value,
                _ => {}
            }
        }
    }
    Some(left == 0 && interval != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u64, u64)]) -> Vec<u8> {
        let mut out = Vec::new();
        fields.iter().for_each(|(number, value)| put_number(&mut out, *number, *value));
        out
    }

    fn image(timers: &[&[(u64, u64)]]) -> Vec<u8> {
        let mut out = vec![1; HEAD];
        for timer in timers {
            let mut entry = message(&[(1, 17), (2, 300)]);
            put_bytes(&mut entry, TIMER, &message(timer));
            put_entry(&mut out, &entry);
        }
        out
    }

    const LOST: &[(u64, u64)] = &[(1, 5), (7, 0), (8, 0), (9, 0), (10, 100_000_000)];
    const MENDED: &[(u64, u64)] = &[(1, 5), (7, 0), (8, 0), (9, 0), (10, 100_000_000), (8, 1)];
    const RUNS: &[(u64, u64)] = &[(1, 6), (7, 0), (8, 17), (9, 1), (10, 0)];
    const ONCE: &[(u64, u64)] = &[(1, 7), (7, 0), (8, 0), (9, 0), (10, 0)];

    #[test]
    fn only_lost_timers_are_changed() {
        assert_eq!(mended(&image(&[RUNS, ONCE])), Some(None));
        assert_eq!(mended(&image(&[RUNS, LOST, ONCE])), Some(Some(image(&[RUNS, MENDED, ONCE]))));
        assert_eq!(mended(&[]), None);
        assert_eq!(mended(&[0; 11]), None);
    }
}
