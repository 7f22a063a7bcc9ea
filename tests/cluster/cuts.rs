//! The connection of a mount is cut at each message of a mixed workload: nothing is done twice, nothing is left
//! out, and no program notices.

use std::collections::BTreeMap;

use mfs_tests::{Node, Setup};
use serde_json::Value;

/// A bit of everything, one after the other. It prints what every call answered, and in the end what is there.
/// Whatever would be done twice shows: in an error, in a length, in a name that is gone.
const WORKLOAD: &str = r"
import errno, fcntl, os, sys
def say(*what): print(*what)
def fails(call, *words):
    try: call(*words)
    except OSError as e: say(call.__name__, errno.errorcode[e.errno])
    else: say(call.__name__, 'succeeds')
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
f = os.open('a', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
fails(os.open, 'a', os.O_CREAT | os.O_EXCL)
fcntl.lockf(f, fcntl.LOCK_EX)
say(os.pwrite(f, b'one two three', 0), os.pwrite(f, b'TWO', 4), os.pread(f, 100, 0))
os.fsync(f)
fcntl.lockf(f, fcntl.LOCK_UN)
g = os.open('a', os.O_WRONLY | os.O_APPEND)
for n in range(3): say(os.write(g, b'%d,' % n))
say(os.write(g, b'0123456789abcdef' * 16384))
fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
say(os.fstat(f).st_size)
os.ftruncate(g, 30)
os.write(g, b'end')
os.close(g)
say(os.pread(f, 100, 0))
os.mkdir('d')
os.rename('a', 'd/b')
os.link('d/b', 'c')
os.symlink('c', 's')
os.mkfifo('p', 0o600)
say(os.stat('s').st_nlink, os.readlink('s'), sorted(os.listdir('.')))
os.setxattr('c', 'user.x', b'1', os.XATTR_CREATE)
os.setxattr('c', 'user.x', b'2', os.XATTR_REPLACE)
say(os.getxattr('c', 'user.x'))
os.removexattr('c', 'user.x')
fails(os.removexattr, 'c', 'user.x')
os.chmod('c', 0o600)
os.truncate('c', 20)
os.posix_fallocate(f, 0, 64)
say(os.fstat(f).st_size)
os.unlink('c')
say(os.fstat(f).st_nlink)
os.rename('d/b', 'p')
os.rename('p', 'e')
fails(os.rmdir, 'e')
os.rmdir('d')
fails(os.unlink, 'd')
os.unlink('s')
os.close(f)
for name in sorted(os.listdir('.')):
    s = os.lstat(name)
    say(name, oct(s.st_mode), s.st_nlink, s.st_size, open(name, 'rb').read())
";

/// Runs it in a new directory, and says what it printed.
fn work(node: Node<'_>, directory: &str) -> String {
    let mut command = node.command("python3");
    let output = command.args(["-c", WORKLOAD, directory]).output().expect("mfs lab exec starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{directory}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Mounts /mfs of a node anew; `armed` is the setting that arms fail points in the mount.
fn mount(node: Node<'_>, armed: &str) {
    node.run(&format!("umount /mfs && {armed} mount /mfs"));
}

/// How many requests a mount has sent, and how many of them again.
fn sent(node: Node<'_>) -> (u64, u64) {
    let figures = node.mount_figures();
    let count = |name: &str| {
        let figure = &figures[name];
        let parts = figure.as_object().into_iter().flat_map(|parts| parts.values());
        figure.as_u64().unwrap_or_else(|| parts.filter_map(Value::as_u64).sum())
    };
    (count("mfs_client_requests_sent_total"), count("mfs_client_requests_repeated_total"))
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// `CUTS_EVERY` says at each how manieth message (5), `CUTS_FROM` at which first (1); `make soak` cuts at every one.
#[test]
fn a_connection_that_is_cut_at_any_message_is_not_noticed() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let wanted = work(n2, "/data/local");
    mount(n1, "");
    assert_eq!(work(n1, "/mfs/n2/data/whole"), wanted, "without any cut");
    let (messages, _) = sent(n1);
    let (every, from) = (number("CUTS_EVERY", 5), number("CUTS_FROM", 1));
    let mut noticed = BTreeMap::new();
    for point in ["send", "sent", "received"] {
        for nth in (from as u64..=messages).step_by(every) {
            let cut = format!("{point}@{nth}");
            mount(n1, &format!("MFS_FAIL={cut}=cut"));
            let told = work(n1, &format!("/mfs/n2/data/{cut}"));
            assert_eq!(told, wanted, "{cut} of {messages}");
            let (_, again) = sent(n1);
            *noticed.entry((point, again > 0)).or_insert(0_u32) += 1;
        }
    }
    println!("{messages} messages: {noticed:?}");
    for point in ["send", "received"] {
        assert!(noticed.contains_key(&(point, true)), "no connection was cut at {point}");
    }
}
