//! `JobId`: names a job in the whole cluster.

use std::fmt;
use std::str::FromStr;

use crate::types::NodeName;

/// Names a job: its home, and a number that counts up from 1 there and is not used again as long as the
/// home's daemon lives. Written `NODE.NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// The node where it was started.
    pub home: NodeName,
    /// Its number there.
    pub number: u64,
}

/// Names the images of a job that is about to move; chosen by its home, and not to be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImagesToken(pub [u8; 16]);

/// A text is no job's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no job: they are written NODE.NUMBER, as `mfs ps` shows them")]
pub struct NotAJob(pub String);

// === impl JobId ===

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.home, self.number)
    }
}

impl FromStr for JobId {
    type Err = NotAJob;

    fn from_str(text: &str) -> Result<Self, NotAJob> {
        let wrong = || NotAJob(text.to_owned());
        let (home, number) = text.rsplit_once('.').ok_or_else(wrong)?;
        let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
        Ok(Self { home: home.parse().map_err(|_| wrong())?, number })
    }
}

// === impl ImagesToken ===

impl fmt::Display for ImagesToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ImagesToken {
    /// Whoever has it may fetch the images, so it is not written out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImagesToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_read_as_they_are_written() {
        let id: JobId = "anna.17".parse().unwrap();
        assert_eq!((id.number, id.to_string().as_str()), (17, "anna.17"));
        for wrong in ["", "17", "anna.", "anna.0", "anna.x", ".1", "here.1"] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
    }
}
