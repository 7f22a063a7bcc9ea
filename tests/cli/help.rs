//! The help of every command is a committed text, so that a change of it is seen.

use mfs_tests::Setup;

use super::surface::explore;

#[test]
fn help_reads_as_committed() {
    let lab = Setup::nodes(1).bare().up();
    let mut text = String::new();
    for program in ["mfs", "mfsd"] {
        for surface in explore(lab.node(1), &[program]) {
            text += &format!("## {}\n\n{}\n\n", surface.name(), surface.help.trim_end());
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/help.txt");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    if std::env::var_os("MFS_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let differs = committed.lines().zip(text.lines()).find(|(was, is)| was != is);
    assert!(
        committed == text,
        "tests/cli/help.txt is old; read the difference, then run this test once with MFS_BLESS=1. First: {differs:?}"
    );
}

#[test]
fn every_command_and_option_is_explained() {
    let lab = Setup::nodes(1).bare().up();
    for surface in explore(lab.node(1), &["mfs"]) {
        let lines: Vec<_> = surface.help.lines().collect();
        assert!(
            lines[0].len() > 10 && !lines[0].starts_with("Usage"),
            "{}: {lines:?}",
            surface.name()
        );
        let group = lines.contains(&"Commands:");
        let examples = lines.iter().skip_while(|line| **line != "Examples:").skip(1);
        let mut examples = examples.take_while(|line| !line.is_empty()).peekable();
        assert!(group || examples.peek().is_some(), "{} has no example", surface.name());
        for example in examples {
            assert!(example.contains(&surface.name()), "{}: {example}", surface.name());
        }
        for option in &surface.options {
            let at = lines.iter().position(|line| {
                line.split([' ', ',', '.', '=', '[']).any(|word| word == option.name)
            });
            let at = at.unwrap_or_else(|| panic!("{}: {}", surface.name(), option.name));
            let after = lines[at].split(&option.name).nth(1).unwrap_or_default();
            let words =
                after.split_whitespace().filter(|word| !word.starts_with(['<', '['])).count();
            let next = lines.get(at + 1).is_some_and(|line| line.starts_with("          "));
            assert!(words > 0 || next, "{} {} has no explanation", surface.name(), option.name);
        }
    }
}

/// The pages that are written by hand name every option and every key.
#[test]
fn the_pages_of_mfsd_and_mount_mfs_are_whole() {
    let read = |path: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        std::fs::read_to_string(path).unwrap()
    };
    let page = |path: &str| read(path).replace("\\-", "-");
    let help = std::process::Command::new(mfs_tests::binary("mfsd")).arg("--help").output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let options = help.split_whitespace().filter(|word| word.starts_with("--")).map(str::to_owned);
    let example = read("dist/mfsd.toml");
    let keys = example.lines().filter_map(|line| {
        let line = line.trim_start_matches('#');
        let key = line.split_once(" = ").map(|(key, _)| key).filter(|key| !key.contains(' '));
        key.or_else(|| line.strip_prefix('[')?.split(['.', ']']).next()).map(str::to_owned)
    });
    let mount = read("fstab.example");
    let (_, own) = mount.split_once("Of this file system:").unwrap();
    let (own, _) = own.split_once("Of every file system").unwrap();
    let own = own.lines().filter_map(|line| line.strip_prefix("#   "));
    let own = own
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split([' ', '=']).next().map(str::to_owned));
    for (path, words) in [
        ("dist/mfsd.8", options.chain(keys).collect::<Vec<_>>()),
        ("dist/mount.mfs.8", own.collect()),
    ] {
        let page = page(path);
        assert!(words.len() > 5, "{path}: {words:?}");
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        for word in words {
            let word = word.trim_matches(['[', ']', ',']);
            let named = page.split(|c| !is_part(c)).any(|found| found == word);
            assert!(named, "{path} does not name {word}");
        }
    }
}

#[test]
fn manual_pages_and_completions_name_every_command() {
    let lab = Setup::nodes(1).bare().up();
    let node = lab.node(1);
    node.run("mfs generate man /tmp/man && mfs generate completions /tmp/completions");
    for surface in explore(node, &["mfs"]) {
        let page = surface.words.join("-");
        assert!(node.run(&format!("cat /tmp/man/{page}.1")).contains(".SH SYNOPSIS"), "{page}");
        let last = surface.words.last().unwrap();
        for file in ["mfs.bash", "_mfs", "mfs.fish"] {
            node.run(&format!("grep -q -- {last} /tmp/completions/{file}"));
        }
    }
}
