//! What commands, options and arguments there are, as the help itself says.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use mfs_tests::Node;

/// A command with its sub-commands' names, and what it takes.
#[derive(Debug, Clone)]
pub(super) struct Surface {
    /// The words that name it: `mfs`, `lab`, `up`.
    pub(super) words: Vec<String>,
    /// Its help.
    pub(super) help: String,
    /// Its options.
    pub(super) options: Vec<Switch>,
    /// How many arguments its usage line names.
    pub(super) arguments: usize,
}

/// An option.
#[derive(Debug, Clone)]
pub(super) struct Switch {
    /// `--name`
    pub(super) name: String,
    /// Whether it takes a value.
    pub(super) value: bool,
    /// Whether it may be given several times.
    pub(super) repeats: bool,
}

/// Runs a command inside the node; one that does not end by itself in time is ended, and that shows as 124.
pub(super) fn run<S: AsRef<OsStr>>(node: Node<'_>, words: impl IntoIterator<Item = S>) -> Output {
    let mut command = node.command("timeout");
    command.args(["--kill-after=5", "60"]).args(words);
    command.output().expect("mfs lab exec starts")
}

/// A command and all below it.
pub(super) fn explore(node: Node<'_>, words: &[&str]) -> Vec<Surface> {
    let output = run(node, words.iter().copied().chain(["--help"]));
    assert!(output.status.success(), "{} --help: {:?}", words.join(" "), output.status.into_raw());
    let help = String::from_utf8(output.stdout).expect("help is text");
    let own = Surface::read(words, &help);
    let mut found = vec![own];
    for name in section(&help, "Commands:").filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            let below: Vec<_> = words.iter().copied().chain([name]).collect();
            found.extend(explore(node, &below));
        }
    }
    found
}

/// The entries below a heading of a help text: lines indented by two to six spaces.
fn section<'a>(help: &'a str, heading: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = help.lines().skip_while(move |line| *line != heading).skip(1);
    let inside = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    inside.filter(|line| {
        let indent = line.len() - line.trim_start().len();
        !line.is_empty() && (2..=6).contains(&indent)
    })
}

// === impl Surface ===

impl Surface {
    fn read(words: &[&str], help: &str) -> Self {
        let options = section(help, "Options:").filter_map(Switch::read).collect();
        let usage = help.lines().find(|line| line.trim_start().starts_with("Usage:"));
        let arguments = usage
            .unwrap_or_default()
            .split_whitespace()
            .filter(|word| {
                let word = word.trim_matches(['[', ']', '.']);
                let argument =
                    word.starts_with('<') || word.chars().all(|c| c.is_ascii_uppercase());
                argument && !word.is_empty() && !matches!(word, "<COMMAND>" | "OPTIONS" | "COMMAND")
            })
            .count();
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            help: help.to_owned(),
            options,
            arguments,
        }
    }

    /// Its words as one.
    pub(super) fn name(&self) -> String {
        self.words.join(" ")
    }
}

// === impl Switch ===

impl Switch {
    fn read(line: &str) -> Option<Self> {
        let text = line.trim_start();
        let at = text.find("--")?;
        let rest = &text[at..];
        let name: String = rest.chars().take_while(|c| *c == '-' || c.is_alphanumeric()).collect();
        let after = &rest[name.len()..];
        let value = after.starts_with(" <") || after.starts_with("=<") || after.starts_with(" [");
        Some(Self { repeats: after.contains(">...") || after.starts_with("..."), name, value })
    }
}

#[test]
fn help_is_read_as_it_is_meant() {
    let help = "Makes\n\nUsage: mfs join [OPTIONS] <TOKEN> [HOST]\n\nCommands:\n  up    Brings\n        more\n\n\
                Options:\n      --name <NAME>  Its name\n  -v, --verbose...   More\n  -h, --help  Print help\n";
    let surface = Surface::read(&["mfs", "join"], help);
    assert_eq!(surface.arguments, 2);
    let options: Vec<_> =
        surface.options.iter().map(|o| (o.name.as_str(), o.value, o.repeats)).collect();
    assert_eq!(
        options,
        [("--name", true, false), ("--verbose", false, true), ("--help", false, false)]
    );
    assert_eq!(section(help, "Commands:").count(), 1);
}
