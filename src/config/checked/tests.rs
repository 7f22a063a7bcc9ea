//! The table of what a configuration may and may not say.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/mfs/mfsd.toml"), text)
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("# only this\n\n").unwrap(), Config::default());
    let missing = Path::new("/nonexistent/mfsd.toml");
    assert_eq!(Config::read(missing).unwrap(), Config::default());
}

#[test]
fn everything_that_can_be_said() {
    let config = parse(
        r#"
            name = "alpha"
            number = 309
            listen = ["10.0.0.1", "[fd00::1]:7231"]
            addresses = ["10.0.0.1"]
            interface = "wg0"
            transport = "plaintext"
            seeds = ["beta", "10.0.0.3:7231", "gamma.example:1", "fd00::3", "[fd00::3]", "[fd00::3]:1"]
            beacon = false
            trust_root = false
            [export]
            path = "/srv/data"
            read_only = true
            squash = "all"
            hidden = ["/srv/data/private"]
            [peer.beta]
            trust_root = true
        "#,
    )
    .unwrap();
    assert_eq!(config.name, Some(NodeName::parse("alpha").unwrap()));
    assert_eq!(config.number.map(NodeNumber::get), Some(309));
    assert_eq!(
        config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.1:7230", "[fd00::1]:7231"]
    );
    assert_eq!(config.transport, Transport::Plaintext);
    assert_eq!(config.seeds[..2], ["beta", "10.0.0.3:7231"]);
    assert_eq!(config.seeds.len(), 6);
    assert!(!config.beacon && config.export.read_only);
    assert_eq!(config.export.squash, Squash::All);
    assert_eq!(config.export.hidden, [Path::new("/srv/data/private")]);
    assert!(config.trusts_root_of(&NodeName::parse("beta").unwrap(), false));
    assert!(!config.trusts_root_of(&NodeName::parse("gamma").unwrap(), true));
}

#[test]
fn wrong_values_are_refused_by_line_and_with_a_remedy() {
    let long = "x".repeat(1 << 16);
    let huge = format!("name = \"{long}\"");
    for (text, line, says) in [
        ("nmae = \"a\"", 1, "unknown field `nmae`"),
        ("\n\n[export]\nread-only = true", 4, "unknown field `read-only`"),
        ("[peer.beta]\nroot = true", 2, "unknown field `root`"),
        ("name = \"a\"\nname = \"b\"", 2, "said twice: remove one"),
        ("[export]\n[export]", 2, "said twice: remove one"),
        ("name = 3", 1, "expected a text in quotes, as in \"text\""),
        ("name = \"\"", 1, "1 to 63 characters"),
        ("name = \"12\"", 1, "beginning with a letter"),
        ("name = \"here\"", 1, "reserved"),
        (&huge, 1, "1 to 63 characters"),
        ("number = 0", 1, "use 1 to 65535"),
        ("number = -1", 1, "use 1 to 65535"),
        ("number = 65536", 1, "use 1 to 65535"),
        ("number = 99999999999999999999", 1, "integer `99999999999999999999`, expected a number"),
        ("number = \"1\"", 1, "expected a number, as in 7"),
        ("export = 3", 1, "expected a heading of its own, [export]"),
        ("peer = 3", 1, "expected headings, as in [peer.NAME]"),
        ("peer.beta = 3", 1, "expected a heading, [peer.NAME]"),
        ("listen = \"10.0.0.1\"", 1, "expected a list, as in [\"text\"]"),
        ("listen = []", 1, "at least one address"),
        ("listen = [\"\"]", 1, "write ADDRESS"),
        ("listen = [\"host:7230\"]", 1, "write ADDRESS"),
        ("listen = [\"10.0.0.1:0\"]", 1, "write ADDRESS"),
        ("listen = [\n\"10.0.0.1\",\n\"10.0.0.256\"]", 3, "write ADDRESS"),
        ("addresses = [\"0.0.0.0\"]", 1, "not an address of this node"),
        ("interface = \"\"", 1, "`ip link` shows them"),
        ("interface = \"sixteen-letters-\"", 1, "`ip link` shows them"),
        ("transport = \"TLS\"", 1, "write \"tls\" or \"plaintext\""),
        ("\ntransport = \"plaintext\"", 2, "it needs interface"),
        (
            "listen = [\"127.0.0.1\", \"10.0.0.1\"]\ntransport = \"plaintext\"",
            2,
            "it needs interface",
        ),
        ("seeds = [\"\"]", 1, "write HOST"),
        ("seeds = [\"a b\"]", 1, "write HOST"),
        ("seeds = [\"beta:99999\"]", 1, "write HOST"),
        ("seeds = [\"beta:\"]", 1, "write HOST"),
        ("seeds = [\"10.0.0.3:0x1\"]", 1, "write HOST"),
        ("beacon = \"no\"", 1, "expected true or false"),
        ("[export]\npath = \"srv\"", 2, "write it from / on"),
        ("[export]\npath = \"/srv/../etc\"", 2, "write it from / on"),
        ("[export]\npath = \"\"", 2, "write it from / on"),
        ("[export]\nsquash = \"root_squash\"", 2, "\"root\", \"all\" or \"none\""),
        ("[export]\nhidden = [\"x\"]", 2, "write it from / on"),
        ("[peer.Beta]\ntrust_root = true", 1, "beginning with a letter"),
        ("name = ", 1, ""),
        ("\n\"", 2, ""),
    ] {
        let error = parse(text).expect_err(text).to_string();
        let place = format!("/etc/mfs/mfsd.toml:{line}: ");
        assert!(error.starts_with(&place), "{text:.60}: {error:.200}");
        assert!(error.contains(says), "{text:.60}: {error:.200}");
        assert_eq!(error.lines().count(), 1, "one line: {error:.200}");
    }
}

/// What only the running machine can find wrong is named by its line, too.
#[test]
fn places_are_those_of_the_keys() {
    let config =
        parse("beacon = false\n\nlisten = [\n\"10.0.0.1\"]\n[export]\npath = \"/srv\"").unwrap();
    assert_eq!(config.place_of("listen"), "/etc/mfs/mfsd.toml:4");
    assert_eq!(config.place_of("export.path"), "/etc/mfs/mfsd.toml:6");
    assert_eq!(config.place_of("interface"), "/etc/mfs/mfsd.toml");
}

#[test]
fn plaintext_needs_a_place_where_it_is_safe() {
    for text in [
        "transport = \"plaintext\"\nlisten = [\"127.0.0.1\"]",
        "transport = \"plaintext\"\nlisten = [\"[::1]:7230\", \"127.0.0.2\"]",
        "transport = \"plaintext\"\ninterface = \"wg0\"",
    ] {
        assert_eq!(parse(text).unwrap().transport, Transport::Plaintext);
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mfsd.toml");
    std::fs::write(&file, b"# a\nname = \"\xff\"").unwrap();
    let error = Config::read(&file).unwrap_err().to_string();
    assert!(error.contains(":2: this is not UTF-8"), "{error}");
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(Config::read(&file).unwrap_err().to_string().contains("larger than 1 MiB"));
    assert!(Config::read(dir.path()).unwrap_err().to_string().contains("not a regular file"));
    // Who may write it decides whose root is root here.
    std::fs::write(&file, b"").unwrap();
    let mode = |mode| std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    mode(0o646);
    let error = Config::read(&file).unwrap_err().to_string();
    assert!(error.contains(&format!("chmod go-w {}", file.display())), "{error}");
    mode(0o644);
    Config::read(&file).unwrap();
}
