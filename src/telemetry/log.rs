//! Where log lines go: to the journal under systemd, else to standard error.
//!
//! Lines are prose for people; spans and fields carry request, peer and file. What to log is the caller's
//! affair, and so is reading the environment: this module is told.

use std::ffi::OsStr;
use std::io::IsTerminal;

use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged when nobody says otherwise: what an administrator should know, nothing per request.
pub const DEFAULT_FILTER: &str =
    "info,h2=warn,hyper=warn,tonic=warn,tower=warn,rustls=warn,foca=warn";

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Standard error, with the time; in colour on a terminal.
    Stderr,
    /// The journal, with its fields; standard error where there is no journal.
    Journal,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter has no meaning.
    #[error(
        "the log filter `{filter}` is not understood: {source}. Write a level (error, warn, info, debug, \
         trace) or levels by module, as in `info,mfsd=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It was set up before.
    #[error("logging was set up twice in one process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

// === impl Sink ===

impl Sink {
    /// The journal if standard error is connected to it, which systemd says by the value of
    /// `JOURNAL_STREAM` (device and inode of the stream; systemd.exec(5)). The value alone does not
    /// suffice: programs inherit it whose standard error goes elsewhere.
    pub fn for_stream(journal_stream: Option<&OsStr>) -> Self {
        let stated = journal_stream.and_then(OsStr::to_str).and_then(|s| s.split_once(':'));
        let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return Self::Stderr };
        match stated {
            Some((device, inode))
                if device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino) =>
            {
                Self::Journal
            }
            _ => Self::Stderr,
        }
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// A filter without meaning; a second call.
pub fn start(filter: &str, sink: Sink) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let journal = match sink {
        Sink::Journal => tracing_journald::layer().ok(),
        Sink::Stderr => None,
    };
    match journal {
        Some(journal) => registry.with(journal).try_init()?,
        None => registry
            .with({
                let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
                // On a terminal the layer itself looks whether NO_COLOR is set.
                if std::io::stderr().is_terminal() { layer } else { layer.with_ansi(false) }
            })
            .try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_meaning_is_refused_with_an_example() {
        let error = start("mfsd=loudly", Sink::Stderr).unwrap_err().to_string();
        assert!(error.contains("`mfsd=loudly`") && error.contains("info,mfsd=debug"), "{error}");
    }

    #[test]
    fn the_journal_is_used_only_if_standard_error_leads_there() {
        assert_eq!(Sink::for_stream(None), Sink::Stderr);
        for value in ["", "1", "a:b", "1:1"] {
            assert_eq!(Sink::for_stream(Some(OsStr::new(value))), Sink::Stderr, "{value}");
        }
        let stderr = rustix::fs::fstat(std::io::stderr()).unwrap();
        let value = format!("{}:{}", stderr.st_dev, stderr.st_ino);
        assert_eq!(Sink::for_stream(Some(OsStr::new(&value))), Sink::Journal);
    }

    #[test]
    fn the_default_filter_has_a_meaning() {
        assert!(EnvFilter::try_new(DEFAULT_FILTER).is_ok());
    }
}
