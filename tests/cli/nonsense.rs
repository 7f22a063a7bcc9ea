//! Every option and argument of every command: empty, huge, negative, not UTF-8, twice, unknown.
//!
//! Whatever is given, a program ends by itself, says a sentence when it refuses, and does not panic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Output;

use mfs_tests::{Node, Setup};

use super::surface::{Surface, explore, run};

/// Values that no option means.
fn nonsense() -> Vec<OsString> {
    vec![
        OsString::new(),
        "9".repeat(400).into(),
        "x".repeat(100_000).into(),
        "-1".into(),
        "-9223372036854775809".into(),
        OsString::from_vec(vec![0xff, 0xfe, b'/', 0x80]),
        "\u{202e}\n\t'\"$(exit)".into(),
        "../../../../etc/passwd".into(),
    ]
}

/// What is wrong with how a program ended, if something is.
fn complaint(output: &Output) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    let crashed = said.contains("panicked") || code == Some(101) || code.is_none_or(|c| c > 128);
    if crashed {
        return Some(format!("crashed: {} {said}", output.status));
    }
    // A daemon that was given a usable directory is running, not hanging.
    if code == Some(124) && !said.contains("this machine is in no cluster") {
        return Some("does not end by itself".to_owned());
    }
    if code != Some(0) && said.trim().is_empty() {
        return Some(format!("{} without a word", output.status));
    }
    None
}

/// Runs one command with these words behind it and notes what is wrong.
fn probe(node: Node<'_>, surface: &Surface, more: &[OsString], wrong: &mut Vec<String>) -> Output {
    let words = surface.words.iter().map(OsString::from).chain(more.iter().cloned());
    let output = run(node, words);
    if let Some(complaint) = complaint(&output) {
        let more: Vec<String> =
            more.iter().map(|word| word.to_string_lossy().chars().take(40).collect()).collect();
        wrong.push(format!("{} {}: {complaint}", surface.name(), more.join(" ")));
    }
    output
}

/// All commands of a program that a test may call with anything: a shell would wait for its user.
fn commands(node: Node<'_>, program: &str) -> Vec<Surface> {
    let all = explore(node, &[program]).into_iter();
    let asks = |s: &Surface| {
        s.help.contains("Commands:\n") || s.words.last().is_some_and(|w| w == "shell")
    };
    let commands: Vec<_> = all.filter(|s| !asks(s)).collect();
    assert!(!commands.is_empty());
    commands
}

fn nobody(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn values_without_meaning() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut wrong = Vec::new();
    for surface in commands(node, "mfs") {
        for option in surface.options.iter().filter(|o| o.value) {
            for value in nonsense() {
                let mut word = OsString::from(format!("{}=", option.name));
                word.push(&value);
                probe(node, &surface, &[word], &mut wrong);
            }
            let missing = probe(node, &surface, &[option.name.clone().into()], &mut wrong);
            if missing.status.code() != Some(2) {
                wrong.push(format!(
                    "{} {} without its value is taken",
                    surface.name(),
                    option.name
                ));
            }
        }
    }
    nobody(wrong);
}

#[test]
fn arguments_without_meaning() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut wrong = Vec::new();
    for surface in commands(node, "mfs") {
        for value in nonsense() {
            // `--` so that what looks like an option is an argument.
            for count in 1..=surface.arguments {
                let mut words = vec![OsString::from("--")];
                words.extend(std::iter::repeat_n(value.clone(), count));
                probe(node, &surface, &words, &mut wrong);
            }
        }
        if surface.arguments == 0 {
            let surplus = probe(node, &surface, &["surplus".into()], &mut wrong);
            if surplus.status.code() != Some(2) {
                wrong.push(format!("{} takes a surplus argument", surface.name()));
            }
        }
    }
    nobody(wrong);
}

#[test]
fn options_unknown_or_twice() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut wrong = Vec::new();
    for surface in commands(node, "mfs") {
        for unknown in ["--no-such-option", "--no-such-option=1", "-Ω"] {
            let output = probe(node, &surface, &[unknown.into()], &mut wrong);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.code() != Some(2) || !said.contains("unexpected argument") {
                wrong.push(format!("{} {unknown} is taken: {said}", surface.name()));
            }
        }
        for option in surface.options.iter().filter(|o| !o.repeats) {
            if matches!(option.name.as_str(), "--help" | "--version") {
                continue;
            }
            let word =
                if option.value { format!("{}=1", option.name) } else { option.name.clone() };
            let output = probe(node, &surface, &[word.clone().into(), word.into()], &mut wrong);
            if output.status.code() != Some(2) {
                wrong.push(format!("{} {} may be given twice", surface.name(), option.name));
            }
        }
    }
    nobody(wrong);
}

/// Runs a daemon with the state directory that is given, until it ends by itself or says that it is ready. Then
/// it is ended, and that shows as 124.
const DAEMON: &str = "\
mfsd --state \"$0\" 2>said & own=$!
until grep -q 'this machine is in no cluster' said || ! kill -0 $own 2>/dev/null; do sleep 0.05; done
kill $own 2>/dev/null && stopped=124
wait $own; status=$?
cat said >&2
exit ${stopped:-$status}";

/// The daemon and the mount read their words themselves.
#[test]
fn daemon_and_mount_refuse_nonsense() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut wrong = Vec::new();
    let program = |words: &[&str]| Surface {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        help: String::new(),
        options: Vec::new(),
        arguments: 0,
    };
    let lines = [
        program(&["mfsd"]),
        program(&["mount.mfs", "mfs"]),
        program(&["mount.mfs"]),
        program(&["mount.mfs", "mfs", "/mfs", "-o"]),
        program(&["mfs-fuse", "mfs", "/mfs", "-o"]),
        // Last: it makes directories of these names, and then one can mount on them.
        program(&["sh", "-c", DAEMON]),
    ];
    for surface in &lines {
        for value in nonsense() {
            let output = probe(node, surface, std::slice::from_ref(&value), &mut wrong);
            // `-o ''` is what mount(8) gives for a line without options.
            if output.status.success() && !value.is_empty() {
                wrong.push(format!(
                    "{} takes {}",
                    surface.name(),
                    value.display().to_string().chars().take(60).collect::<String>()
                ));
            }
        }
    }
    let known = [
        "dfsa=0,dfsa=1",
        "timeo=1,timeo=2",
        "soft,hard",
        "no-such-word",
        "dfsa",
        "timeo=1e3",
        "runtime=relative",
    ];
    for words in known {
        let output = probe(node, &lines[3], &[words.into()], &mut wrong);
        if output.status.success() && words != "soft,hard" && !words.contains(",") {
            wrong.push(format!("mount.mfs -o {words} is taken"));
        }
        run(node, ["umount", "/mfs"]);
    }
    nobody(wrong);
}

/// A full disk and a reader that has gone are answered by a status, not by a panic.
#[test]
fn nowhere_to_print() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    let mut wrong = Vec::new();
    let lines = [
        "mfs lab ls",
        "mfs lab ls --json",
        "mfs init",
        "mfs nodes",
        "mfs nodes --json",
        "mfs token list",
        "mfs stats",
        "mfs stats --json",
        "mfs why /data",
        "mfs locks",
        "mfs locks --json",
        "mfsd --check",
        "mfsd --help",
        "mount.mfs --help",
    ];
    for line in lines {
        let full = node.try_run(&format!("{line} >/dev/full"));
        let unread = node.try_run(&format!("{{ {line}; echo $? >&3; }} 3>&2 2>&1 | true"));
        for ran in [full, unread] {
            if ran.stderr.contains("panicked") || ran.stderr.contains("101") {
                wrong.push(format!("{line}: {}", ran.stderr));
            }
        }
    }
    nobody(wrong);
}

/// The example configuration means what it says: with every key uncommented it is taken.
#[test]
fn the_example_configuration_is_understood() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/mfsd.toml"));
    let text: String = text
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(text.contains("\nsquash = \"root\"\n"), "{text}");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("mfsd.toml");
    std::fs::write(&path, &text).unwrap();
    let config = mfs::config::Config::read(&path).unwrap();
    let defaults = mfs::config::Config::default();
    assert_eq!((config.listen, config.export.squash), (defaults.listen, defaults.export.squash));
    assert_eq!((config.beacon, config.transport), (defaults.beacon, defaults.transport));
}
