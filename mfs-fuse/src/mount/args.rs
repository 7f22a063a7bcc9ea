//! The command line of mount.mfs, as mount(8) calls a helper: `mount.mfs SOURCE DIR [-sfnv] [-o OPTIONS]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mfs::config::paths;

use super::config::MountConfig;
use super::options;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Print how it is used.
    Help,
    /// Print the version.
    Version,
    /// Mount.
    Mount(Box<MountRequest>),
}

/// A mount, and how it is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountRequest {
    pub(super) config: MountConfig,
    /// mount(8) took the source for a file of its directory, and cannot tell by it what is mounted.
    pub(super) mistaken: bool,
    /// `-f`: everything but the mount itself.
    pub(super) fake: bool,
    /// `--foreground`: stay, log to standard error.
    pub(super) foreground: bool,
}

/// How it is used.
pub(super) fn usage() -> String {
    let mut text = String::from(
        "usage: mount.mfs SOURCE DIR [-sfnv] [-o OPTION[,OPTION...]] [--foreground]\n\n\
         Mounts the cluster's file tree. Called by mount(8) for a line of /etc/fstab such as\n\n    \
         mfs /mfs mfs dfsa=1 0 0\n\n\
         and then simply: mount /mfs\n\n  \
         -f  check everything, but do not mount\n  \
         -s  ignore options that are not known\n  \
         -n, -v  accepted, without effect\n  \
         --foreground  stay in the foreground and log to standard error\n\noptions:\n",
    );
    for option in options::OPTIONS {
        let word = match option.value {
            "" => option.word.to_owned(),
            value => format!("{}={value}", option.word),
        };
        text += &format!("  {word:<14} {}\n", option.help);
    }
    text
}

/// Understands a command line (without the program's name), given in directory `here`.
///
/// # Errors
/// A sentence for the administrator.
pub(super) fn parse(
    args: impl IntoIterator<Item = OsString>,
    here: Option<&Path>,
) -> Result<Request, String> {
    let mut places = Vec::new();
    let mut words = Vec::new();
    let (mut fake, mut sloppy, mut foreground) = (false, false, false);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"-h" | b"--help" => return Ok(Request::Help),
            b"-V" | b"--version" => return Ok(Request::Version),
            b"--foreground" => foreground = true,
            b"-o" => words.push(text(&args.next().ok_or("-o needs options after it")?)?),
            // `-t fuse.mfs` and `-N namespace` come from newer versions of mount(8).
            b"-t" | b"-N" => drop(args.next().ok_or("-t and -N need a word after them")?),
            [b'-', flags @ ..] if !flags.is_empty() && !flags.starts_with(b"-") => {
                for flag in flags {
                    match flag {
                        b'f' => fake = true,
                        b's' => sloppy = true,
                        b'n' | b'v' => {}
                        _ => return Err(format!("unknown option {:?}; see mount.mfs --help", arg)),
                    }
                }
            }
            [b'-', ..] => return Err(format!("unknown option {:?}; see mount.mfs --help", arg)),
            _ => places.push(arg),
        }
    }
    let [source, mountpoint] = <[OsString; 2]>::try_from(places)
        .map_err(|_| "exactly a source and a directory are needed; see mount.mfs --help")?;
    if source.is_empty() || source.as_bytes().contains(&0) {
        return Err("the source (first field of the fstab line) must not be empty".to_owned());
    }
    let (source, mistaken) = first_field(source, here);
    let mut config = MountConfig {
        source,
        mountpoint: mountpoint.into(),
        direct_access: false,
        timeout: MountConfig::TIMEOUT,
        hard: false,
        flags: MountConfig::FLAGS,
        runtime: paths::RUNTIME.into(),
        state: paths::STATE.into(),
    };
    for words in &words {
        options::apply(&mut config, words, sloppy)?;
    }
    Ok(Request::Mount(Box::new(MountRequest { config, mistaken, fake, foreground })))
}

/// The first field of the fstab line, and whether mount(8) took it for something else: where its own
/// directory has a file of this name, as `/` has for systemd and the line `mfs /mfs mfs`, it gives the
/// file's path (mnt_resolve_spec of libmount 2.38). findmnt(8) would then show the path, and `mount -a`
/// find no mount of the name.
fn first_field(source: OsString, here: Option<&Path>) -> (OsString, bool) {
    let path = Path::new(&source);
    match path.file_name() {
        Some(name) if path.is_absolute() && path.parent() == here => (name.to_owned(), true),
        _ => (source, false),
    }
}

fn text(words: &OsStr) -> Result<String, String> {
    words.to_str().map(str::to_owned).ok_or_else(|| "the options after -o are not UTF-8".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Request, String> {
        parse(words.iter().map(OsString::from), None)
    }

    /// A mount with nothing but defaults.
    pub(in super::super) fn config() -> MountConfig {
        match of(&["mfs", "/mfs"]) {
            Ok(Request::Mount(mount)) => mount.config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_call_of_mount_is_understood() {
        let Ok(Request::Mount(mount)) = of(&["mfs", "/mfs", "-n", "-o", "rw,dfsa=1"]) else {
            panic!()
        };
        assert!(mount.config.direct_access && !mount.fake && !mount.foreground);
        assert_eq!(mount.config.source, "mfs");
        let Ok(Request::Mount(mount)) =
            of(&["-fsv", "mfs", "/mfs", "-o", "what", "-t", "fuse.mfs"])
        else {
            panic!()
        };
        assert!(mount.fake);
        assert_eq!(of(&["--help"]), Ok(Request::Help));
        assert_eq!(of(&["-V"]), Ok(Request::Version));
        assert!(usage().contains("timeo=SECONDS"));
    }

    #[test]
    fn a_source_that_mount_took_for_a_file_is_the_first_field_again() {
        let of = |source: &str, here: &str| {
            let (source, mistaken) = first_field(source.into(), Some(Path::new(here)));
            (source.into_string().unwrap(), mistaken)
        };
        assert_eq!(of("/mfs", "/"), ("mfs".to_owned(), true));
        assert_eq!(of("/home/mfs", "/home"), ("mfs".to_owned(), true));
        for (source, here) in [("mfs", "/"), ("/mfs", "/root"), ("/", "/"), ("host:/mfs", "/")] {
            assert_eq!(of(source, here), (source.to_owned(), false));
        }
        assert_eq!(first_field("/mfs".into(), None), ("/mfs".into(), false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for words in [
            &[][..],
            &["mfs"],
            &["mfs", "/a", "/b"],
            &["", "/a"],
            &["mfs", "/a", "-o"],
            &["mfs", "/a", "-x"],
            &["mfs", "/a", "--force"],
            &["mfs", "/a", "-"],
            &["mfs", "/a", "-t"],
        ] {
            assert!(of(words).is_err(), "{words:?}");
        }
        let not_utf8 = OsStr::from_bytes(b"\xff").to_owned();
        assert!(parse(["mfs".into(), "/a".into(), "-o".into(), not_utf8], None).is_err());
    }
}
