//! What commands print on a terminal of 80 columns, and whether they paint there.

use mfs_tests::{Cluster, Node, Setup};

/// Runs the words behind it on a terminal of 80 columns.
const TERMINAL: &str = "
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.read(0, 1)
    os.execvp(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
settings = termios.tcgetattr(terminal)
settings[3] &= ~termios.ECHO
termios.tcsetattr(terminal, termios.TCSANOW, settings)
os.write(terminal, b'\\n')
said = b''
try:
    while piece := os.read(terminal, 65536): said += piece
except OSError: pass
os.waitpid(pid, 0)
sys.stdout.write(said.decode().replace('\\r', ''))
";

/// Names as long as they get, and addresses.
const NAMES: [&str; 2] =
    ["a-rather-long-name-of-a-machine-in-the-cellar", "another-rather-long-name-of-a-machine"];

fn on_a_terminal(node: Node<'_>, words: &str) -> String {
    node.run(&format!("python3 -c \"$(cat /tmp/terminal.py)\" {words}"))
}

fn two_with_long_names() -> Cluster {
    let lab = Setup::nodes(2).bare().up();
    for node in lab.nodes() {
        node.run("mkdir -p /mfs && mount /mfs");
        node.run(&format!("cat >/tmp/terminal.py <<'END'{TERMINAL}END"));
    }
    let (n1, n2) = (lab.node(1), lab.node(2));
    let said = n1.run(&format!("mfs init --name {} --trust-root", NAMES[0]));
    let token = said.split_whitespace().find(|word| word.starts_with("MFS1-"));
    let token = token.expect("mfs init prints a token");
    n2.run(&format!("mfs join {token} 10.61.0.1 --name {}", NAMES[1]));
    mfs_tests::eventually("they see each other", std::time::Duration::from_secs(60), || {
        n1.try_run(&format!("ls /mfs/{}/etc", NAMES[1])).status.success()
    });
    n2.run("ip addr add fd00:1234:5678:9abc:def0:1234:5678:9abc/64 dev eth0");
    lab
}

#[test]
fn what_is_shown_fits_80_columns() {
    let lab = two_with_long_names();
    let (n1, n2) = (lab.node(1), lab.node(2));
    let file = "/data/a/directory/that/has/a/rather/long/path/file";
    n2.run(&format!("mkdir -p {} && touch {file}", file.trim_end_matches("/file")));
    let path = format!("/mfs/{}{file}", NAMES[1]);
    let mut holder = n1
        .command("python3")
        .args([
            "-c",
            &format!(
                "import fcntl, time
f = open('{path}', 'r+')
fcntl.lockf(f, fcntl.LOCK_EX, 1000000000, 123456789012)
fcntl.flock(f, fcntl.LOCK_EX)
open('/tmp/held', 'w').close()
time.sleep(600)"
            ),
        ])
        .spawn()
        .unwrap();
    mfs_tests::eventually("the locks are held", std::time::Duration::from_secs(60), || {
        n1.try_run("test -e /tmp/held").status.success()
    });
    let locks = format!("mfs locks --node {}", NAMES[1]);
    let why = format!("mfs why {path}");
    for (words, shown) in [
        ("mfs nodes", "NUMBER"),
        ("mfs nodes -v", "ROLE"),
        (&locks, "exclusive"),
        (&why, "exclusive"),
        ("mfs stats", "mfs_members"),
        ("mfs token list", "token"),
        ("mfs join --help", "Examples"),
        ("mfs lab up --help", "Examples"),
    ] {
        let said = on_a_terminal(n1, words);
        assert!(said.contains(shown), "{words}: {said}");
        // A path is not broken: it is to be copied.
        for line in said.lines().filter(|line| !line.contains(file)) {
            let plain = painted(line).unwrap_or_else(|| line.to_owned());
            assert!(plain.chars().count() <= 80, "{words}: {line:?}");
        }
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// The line without what paints it, if anything does.
fn painted(line: &str) -> Option<String> {
    let mut pieces = line.split('\u{1b}');
    let first = pieces.next()?.to_owned();
    let rest: Vec<_> =
        pieces.map(|piece| piece.split_once('m').map_or("", |(_, text)| text)).collect();
    (!rest.is_empty()).then(|| first + &rest.concat())
}

#[test]
fn nothing_is_painted_for_no_color_or_into_a_file() {
    let lab = two_with_long_names();
    let n1 = lab.node(1);
    assert!(painted(&on_a_terminal(n1, "mfs --help")).is_some(), "a terminal is seen as one");
    for words in [
        "env NO_COLOR=1 mfs --help",
        "env NO_COLOR=1 mfs nodes",
        "env NO_COLOR=1 mfs foo",
        "env NO_COLOR=1 mfs lab up --name x --bare --nodes 1 --state /nowhere/at:all",
        "env NO_COLOR=1 timeout 3 mfsd --state /tmp/s --runtime /tmp/r",
    ] {
        let said = on_a_terminal(n1, words);
        assert!(!said.is_empty() && !said.contains('\u{1b}'), "{words}: {said:?}");
    }
    let said =
        n1.run("(mfs --help; mfs foo; timeout 3 mfsd --state /tmp/s --runtime /tmp/r) 2>&1; true");
    assert!(said.contains("in no cluster") && !said.contains('\u{1b}'), "{said:?}");
}
