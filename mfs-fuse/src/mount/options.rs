//! The words of `-o`: every option that exists, in one table that the parser, the help, the refusal of
//! unknown options and the check of `fstab.example` share.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::MountFlags;

use super::config::MountConfig;

/// An option of `-o`.
pub(super) struct OptionWord {
    /// As it is written; `=` is followed by a value.
    pub(super) word: &'static str,
    /// What a value looks like; empty if it takes none.
    pub(super) value: &'static str,
    /// One line for people.
    pub(super) help: &'static str,
    apply: Apply,
}

type Setter = fn(&mut MountConfig, &str) -> Result<(), String>;

enum Apply {
    Set(Setter),
    Raise(MountFlags),
    Lower(MountFlags),
    /// Of mount(8) itself; says nothing to a file system.
    Ignore,
}

const fn word(word: &'static str, help: &'static str, apply: Apply) -> OptionWord {
    OptionWord { word, value: "", help, apply }
}

const fn valued(
    word: &'static str,
    value: &'static str,
    help: &'static str,
    set: Setter,
) -> OptionWord {
    OptionWord { word, value, help, apply: Apply::Set(set) }
}

/// Who decides about access times: where the file lies they are kept, whatever the mount says.
const HOME_KEEPS_TIMES: &str = "accepted; the home node keeps access times as its own mounts say";

/// Every option.
pub(super) const OPTIONS: &[OptionWord] = &[
    valued(
        "dfsa",
        "0|1",
        "1: files whose home is this node are used directly, at local speed; 0: through mfsd",
        |config, value| {
            config.direct_access = match value {
                "0" => false,
                "1" => true,
                _ => return Err("dfsa is 0 or 1".to_owned()),
            };
            Ok(())
        },
    ),
    valued(
        "timeo",
        "SECONDS",
        "how long an operation waits for another node, 1 to 3600 (default 30)",
        |config, value| {
            let seconds: u64 = value
                .parse()
                .ok()
                .filter(|seconds| (1..=3_600).contains(seconds))
                .ok_or("timeo is a number of seconds from 1 to 3600")?;
            config.timeout = Duration::from_secs(seconds);
            Ok(())
        },
    ),
    word(
        "soft",
        "an operation that waited timeo seconds fails with ETIMEDOUT (default)",
        Apply::Set(|config, _| {
            config.hard = false;
            Ok(())
        }),
    ),
    word(
        "hard",
        "operations wait for ever for a node that is away; they can be killed",
        Apply::Set(|config, _| {
            config.hard = true;
            Ok(())
        }),
    ),
    valued("runtime", "DIR", "where mfsd's socket lies (default /run/mfs)", |config, value| {
        config.runtime = directory("runtime", value)?;
        Ok(())
    }),
    valued("state", "DIR", "where mfsd keeps its state (default /var/lib/mfs)", |config, value| {
        config.state = directory("state", value)?;
        Ok(())
    }),
    word("suid", "honour set-uid and set-gid programs", Apply::Lower(MountFlags::NOSUID)),
    word("nosuid", "do not honour them (default)", Apply::Raise(MountFlags::NOSUID)),
    word("nodev", "device nodes are not usable (always so)", Apply::Raise(MountFlags::NODEV)),
    word("ro", "mount read-only", Apply::Raise(MountFlags::RDONLY)),
    word("rw", "mount for reading and writing (default)", Apply::Lower(MountFlags::RDONLY)),
    word("noexec", "execute nothing below the mount", Apply::Raise(MountFlags::NOEXEC)),
    word("exec", "allow programs to be executed (default)", Apply::Lower(MountFlags::NOEXEC)),
    word("noatime", HOME_KEEPS_TIMES, Apply::Raise(MountFlags::NOATIME)),
    word("atime", HOME_KEEPS_TIMES, Apply::Lower(MountFlags::NOATIME)),
    word("nodiratime", HOME_KEEPS_TIMES, Apply::Raise(MountFlags::NODIRATIME)),
    word("diratime", HOME_KEEPS_TIMES, Apply::Lower(MountFlags::NODIRATIME)),
    word("relatime", HOME_KEEPS_TIMES, Apply::Raise(MountFlags::RELATIME)),
    word("norelatime", HOME_KEEPS_TIMES, Apply::Lower(MountFlags::RELATIME)),
    word(
        "sync",
        "write as if every file were opened with O_SYNC",
        Apply::Raise(MountFlags::SYNCHRONOUS),
    ),
    word("async", "not so (default)", Apply::Lower(MountFlags::SYNCHRONOUS)),
    word("defaults", "the defaults above", Apply::Ignore),
    word("auto", "mount at boot and with mount -a", Apply::Ignore),
    word("noauto", "do not", Apply::Ignore),
    word(
        "nofail",
        "a failure does not disturb the boot (not needed: mfs neither fails nor delays one)",
        Apply::Ignore,
    ),
    word("_netdev", "mount after the network is up (not needed)", Apply::Ignore),
    word("nouser", "only root may mount (default)", Apply::Ignore),
];

/// Prefixes of options that mount(8), systemd and administrators keep for themselves (mount(8),
/// "X-*" and "x-*"; systemd.mount(5)).
const FOREIGN_PREFIXES: [&str; 3] = ["x-", "X-", "comment="];

/// Applies the words of one `-o`.
///
/// # Errors
/// A sentence for the administrator: an unknown option (with the list of those known), a value that is
/// missing, too many or not allowed. `sloppy` ignores unknown ones (`-s` of mount(8)).
pub(super) fn apply(config: &mut MountConfig, words: &str, sloppy: bool) -> Result<(), String> {
    for text in words.split(',').filter(|text| !text.is_empty()) {
        if FOREIGN_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            continue;
        }
        let (name, value) =
            text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if name == "remount" {
            return Err(
                "a mount of mfs cannot be changed: umount it, and mount it anew with the other \
                        options"
                    .to_owned(),
            );
        }
        let Some(option) = OPTIONS.iter().find(|option| option.word == name) else {
            if sloppy {
                continue;
            }
            return Err(format!("unknown option {name:?}; known are {}", known()));
        };
        match (option.value.is_empty(), value) {
            (true, Some(_)) => return Err(format!("option {name} takes no value")),
            (false, None | Some("")) => {
                return Err(format!("option {name} needs a value: {name}={}", option.value));
            }
            _ => {}
        }
        match option.apply {
            Apply::Set(set) => set(config, value.unwrap_or_default())?,
            Apply::Raise(flags) => config.flags |= flags,
            Apply::Lower(flags) => config.flags &= !flags,
            Apply::Ignore => {}
        }
    }
    Ok(())
}

/// The options in one line.
pub(super) fn known() -> String {
    let words: Vec<_> =
        OPTIONS
            .iter()
            .map(|o| {
                if o.value.is_empty() {
                    o.word.to_owned()
                } else {
                    format!("{}={}", o.word, o.value)
                }
            })
            .collect();
    words.join(", ")
}

fn directory(name: &str, value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{name} is an absolute path, not {value:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::tests::config;
    use super::*;

    #[test]
    fn the_words_of_the_fstab_line_are_understood() {
        let mut mount = config();
        apply(&mut mount, "rw,dfsa=1", false).unwrap();
        assert!(mount.direct_access);
        apply(&mut mount, "dfsa=0,ro,timeo=5,hard,suid,x-systemd.automount,_netdev,noatime", false)
            .unwrap();
        assert!(!mount.direct_access && mount.hard);
        assert_eq!(mount.timeout, Duration::from_secs(5));
        assert_eq!(mount.flags, MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOATIME);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, part) in [
            ("dfsa", "needs a value: dfsa=0|1"),
            ("dfsa=", "needs a value"),
            ("dfsa=2", "dfsa is 0 or 1"),
            ("dfsa=-1", "dfsa is 0 or 1"),
            ("timeo=0", "1 to 3600"),
            ("timeo=99999999999999999999", "1 to 3600"),
            ("timeo=1.5", "1 to 3600"),
            ("hard=1", "takes no value"),
            ("runtime=run", "absolute path"),
            ("dev", "unknown option \"dev\""),
            ("nonsense", "known are dfsa=0|1, timeo=SECONDS, soft"),
            ("Dfsa=1", "unknown option"),
            ("dirsync", "unknown option"),
            ("remount,ro", "umount it, and mount it anew"),
        ] {
            let error = apply(&mut config(), words, false).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
        apply(&mut config(), "nonsense,dev", true).unwrap();
    }

    #[test]
    fn the_last_word_holds() {
        let mut mount = config();
        apply(&mut mount, "ro,rw,dfsa=1,dfsa=0,timeo=3,timeo=4", false).unwrap();
        assert!(!mount.flags.contains(MountFlags::RDONLY) && !mount.direct_access);
        assert_eq!(mount.timeout.as_secs(), 4);
    }

    /// The only uncommented line of `fstab.example` is the one of the README, and its comments explain
    /// each option that exists and none that does not.
    #[test]
    fn fstab_example_holds_one_line_and_every_option() {
        let text = include_str!("../../../fstab.example");
        let lines: Vec<_> =
            text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).collect();
        assert_eq!(lines, ["mfs /mfs mfs dfsa=1 0 0"]);
        let fields: Vec<_> = lines[0].split_whitespace().collect();
        assert_eq!(fields.len(), 6);
        apply(&mut config(), fields[3], false).unwrap();

        let explained: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        let existing: Vec<_> = known().split(", ").map(str::to_owned).collect();
        assert_eq!(explained, existing);
    }
}
