//! The words on mfsd's command line.

use std::ffi::OsString;
use std::path::PathBuf;

use mfs::config::paths;
use thiserror::Error;

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// The state directory.
    pub(crate) state: PathBuf,
    /// The runtime directory.
    pub(crate) runtime: PathBuf,
    /// Become a session of its own, so that the terminal's signals do not arrive.
    pub(crate) detach: bool,
    /// Only check the configuration.
    pub(crate) check: bool,
    /// Where CRIU is looked for, beside the state directory.
    pub(crate) criu: CriuPlaces,
}

/// What the environment says of CRIU, which moves jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CriuPlaces {
    /// The program itself: MFS_CRIU. Nobody who names one wants another.
    pub(crate) named: Option<PathBuf>,
    /// Directories of programs: PATH.
    pub(crate) path: Option<OsString>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run, or check.
    Run(Arguments),
    /// Print this and end.
    Print(String),
}

/// Words that are not understood.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ArgumentError {
    /// No such option.
    #[error("unknown argument {0:?}; `mfsd --help` shows those that exist")]
    Unknown(OsString),
    /// An option without its value.
    #[error("{0} needs a path after it")]
    Missing(&'static str),
    /// An option twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
}

const HELP: &str = "\
mfsd: the daemon of an mfs node

Usage: mfsd [--config FILE] [--state DIR] [--runtime DIR] [--detach] [--check]

  --config FILE   the configuration [/etc/mfs/mfsd.toml]
  --state DIR     keys and membership, mode 0700 [/var/lib/mfs]
  --runtime DIR   the local socket [/run/mfs]
  --detach        become a session of its own (no fork: start it in the background)
  --check         check the configuration and end
  --version       print the version
  --help          print this

Examples:
  mfsd --check
  mfsd --detach </dev/null >>/run/mfs/mfsd.log 2>&1 &

Environment: MFS_LOG sets what is logged, as in MFS_LOG=debug or MFS_LOG=info,mfsd=debug.
MFS_CRIU names the CRIU that moves jobs, instead of that in PATH or in the state directory.
";

/// Understands the words after the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, ArgumentError> {
    let (mut config, mut state, mut runtime) = (None, None, None);
    let (mut detach, mut check) = (false, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (place, option) = match word.to_str() {
            Some("--config") => (&mut config, "--config"),
            Some("--state") => (&mut state, "--state"),
            Some("--runtime") => (&mut runtime, "--runtime"),
            Some("--detach") => {
                detach = true;
                continue;
            }
            Some("--check") => {
                check = true;
                continue;
            }
            Some("--help" | "-h") => return Ok(Request::Print(HELP.to_owned())),
            Some("--version" | "-V") => {
                return Ok(Request::Print(format!("mfsd {}\n", env!("CARGO_PKG_VERSION"))));
            }
            _ => return Err(ArgumentError::Unknown(word)),
        };
        let value = words.next().filter(|value| !value.is_empty());
        let value = value.ok_or(ArgumentError::Missing(option))?;
        if place.replace(PathBuf::from(value)).is_some() {
            return Err(ArgumentError::Twice(option));
        }
    }
    Ok(Request::Run(Arguments {
        config: config.unwrap_or_else(|| paths::CONFIG.into()),
        state: state.unwrap_or_else(|| paths::STATE.into()),
        runtime: runtime.unwrap_or_else(|| paths::RUNTIME.into()),
        detach,
        check,
        criu: CriuPlaces::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    #[test]
    fn without_words_the_usual_places_hold() {
        let Ok(Request::Run(arguments)) = parse([]) else { panic!("no words are fine") };
        assert_eq!(arguments.config.to_str(), Some("/etc/mfs/mfsd.toml"));
        assert_eq!(arguments.state.to_str(), Some("/var/lib/mfs"));
        assert_eq!(arguments.runtime.to_str(), Some("/run/mfs"));
        assert!(!arguments.detach && !arguments.check);
    }

    #[test]
    fn every_option_and_every_mistake() {
        let all = ["--config", "/c", "--state", "/s", "--runtime", "/r", "--detach", "--check"];
        let Ok(Request::Run(arguments)) = parse(words(&all)) else { panic!("all are known") };
        assert_eq!((arguments.config, arguments.state), ("/c".into(), "/s".into()));
        assert!(arguments.detach && arguments.check && arguments.runtime.to_str() == Some("/r"));
        for option in ["--config", "--state", "--runtime"] {
            assert!(matches!(parse(words(&[option])), Err(ArgumentError::Missing(_))));
            assert!(matches!(parse(words(&[option, ""])), Err(ArgumentError::Missing(_))));
            let twice = words(&[option, "/a", option, "/b"]);
            assert!(matches!(parse(twice), Err(ArgumentError::Twice(_))));
        }
        for unknown in ["", "x", "--conf", "--config=/c", "-x"] {
            assert!(
                matches!(parse(words(&[unknown])), Err(ArgumentError::Unknown(_))),
                "{unknown}"
            );
        }
        let odd = OsString::from_vec(vec![0xff]);
        assert_eq!(parse([odd.clone()]), Err(ArgumentError::Unknown(odd.clone())));
        let Ok(Request::Run(arguments)) = parse(["--state".into(), odd.clone()]) else {
            panic!("a path need not be UTF-8")
        };
        assert_eq!(arguments.state.as_os_str(), odd);
        assert!(matches!(parse(words(&["--help"])), Ok(Request::Print(_))));
    }
}
