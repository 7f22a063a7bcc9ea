//! Many hands in one tree: leases are asked back while others look up, read, list and remove. Nobody hangs,
//! nobody is told anything but what one machine says, and all agree at the end.
//!
//! `RECALL_TURNS`: how often each hand acts (200); `RECALL_SEED`: which seed (1); `RECALL_SLEEP`: the longest
//! uninterruptible sleep that is allowed, in seconds (any: it is printed; `make soak` allows 5).

use std::process::Child;
use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};

/// Longest wait for all hands: it finds a deadlock, and decides nothing else.
const LONG: Duration = Duration::from_secs(600);

/// Most memory that a mount takes, in kilobytes.
const MOST_MEMORY: u64 = 200 * 1024;

/// Most descriptors that mfsd has open, which serves two clients: each may have 4,096.
const MOST_DESCRIPTORS: u64 = 4_096;

/// Five processes, each of which does one kind of thing: makes and removes names; moves and links them; looks
/// and reads; lists; writes, by calls and through a mapping. They say what no machine would have said.
const HANDS: &str = r#"
import errno, mmap, os, random, signal, sys
directory, turns, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.chdir(directory)

def name():
    return "%s/%s" % (random.choice("pqr"), random.choice("abcdefgh"))

def make():
    os.close(os.open(name(), os.O_CREAT | os.O_WRONLY, 0o666))

def remove():
    os.unlink(name())

def rename():
    os.rename(name(), name())

def link():
    os.link(name(), name())

def look():
    os.stat(name())

def read():
    fd = os.open(name(), os.O_RDONLY)
    text = os.read(fd, 100000)
    if text.strip(b"wam\0"):
        print("nobody wrote", text)
    os.close(fd)

def listing():
    for entry in os.scandir(random.choice("pqr")):
        entry.stat()

def write():
    fd = os.open(name(), os.O_WRONLY)
    os.pwrite(fd, b"w" * random.randrange(5000), random.randrange(5000))
    os.close(fd)

def append():
    fd = os.open(name(), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"a" * random.randrange(500))
    os.close(fd)

def cut():
    os.truncate(name(), random.randrange(5000))

def store():
    fd = os.open(name(), os.O_RDWR)
    if os.fstat(fd).st_size:
        child = os.fork()
        if child == 0:
            with mmap.mmap(fd, 0) as there:
                there[0:1] = b"m"
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        # Another may have cut it off meanwhile, on one machine, too.
        if status not in (0, signal.SIGBUS, signal.SIGBUS | 128):
            print("a store ended with", status, flush=True)
    os.close(fd)

# What becomes of names that others make, move and remove.
known = {errno.ENOENT, errno.EEXIST}
wrong = 0
for number, kinds in enumerate([(make, remove), (rename, link, remove), (look, read), (listing,), (write, append, cut, store)]):
    if os.fork() == 0:
        random.seed("%s %d" % (seed, number))
        for _ in range(turns):
            kind = random.choice(kinds)
            try:
                kind()
            except OSError as error:
                if error.errno not in known:
                    print(kind.__name__, error, flush=True)
                    wrong = 1
        os._exit(wrong)
for _ in range(5):
    wrong |= os.wait()[1]
sys.exit(wrong != 0)
"#;

/// Watches the threads of its node, and says how long one has slept uninterruptibly at the longest, without
/// having been awake between, and in what.
const WATCHER: &str = r#"
import os, time
asleep, longest = {}, (0, "")
while not os.path.exists("/tmp/done"):
    now, still = time.monotonic(), {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for thread in os.listdir("/proc/%s/task" % pid):
                status = open("/proc/%s/task/%s/status" % (pid, thread)).read()
                if "\nState:\tD" not in status:
                    continue
                lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                key = (thread, lines["voluntary_ctxt_switches"])
                still[key] = asleep.get(key, now)
                if now - still[key] > longest[0]:
                    longest = (now - still[key], lines["Name"] + " " + open("/proc/%s/task/%s/wchan" % (pid, thread)).read())
        except (OSError, KeyError):
            pass
    asleep = still
    time.sleep(0.1)
print("%.1f s %s" % longest)
"#;

fn number(variable: &str, usual: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |given| given.parse().expect("a number"))
}

fn python(node: Node<'_>, script: &str, arguments: &[&str]) -> Child {
    let mut command = node.command("python3");
    command.args(["-c", script]).args(arguments);
    command.stdout(std::process::Stdio::piped()).spawn().expect("mfs lab exec starts")
}

#[test]
fn many_hands_in_one_tree_neither_hang_nor_see_what_is_not_there() {
    let (turns, seed) = (number("RECALL_TURNS", 200), number("RECALL_SEED", 1));
    let cluster = Setup::nodes(3).up();
    let home = cluster.node(3);
    home.run("mkdir -p /data/d/p /data/d/q /data/d/r && chmod -R 777 /data/d");
    let nodes = [cluster.node(1), cluster.node(2), home];
    let watchers = nodes.map(|node| python(node, WATCHER, &[]));
    // The home's own hand uses its mount, which uses the files directly.
    let hands = nodes.map(|node| {
        let seed = format!("{seed} {}", node.name());
        python(node, HANDS, &["/mfs/n3/data/d", &turns.to_string(), &seed])
    });
    for (mut hand, node) in hands.into_iter().zip(nodes) {
        eventually("all hands are done", LONG, || hand.try_wait().unwrap().is_some());
        let ended = hand.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert!(ended.status.success(), "RECALL_SEED={seed} {}:\n{said}", node.name());
    }
    for (watcher, node) in watchers.into_iter().zip(nodes) {
        node.run("touch /tmp/done");
        let ended = watcher.wait_with_output().unwrap();
        // A wait for another node is one, and on a busy machine it is as long as that is busy.
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        print!("longest uninterruptible sleep on {}: {said}", node.name());
        let slept: f64 =
            said.split(' ').next().unwrap().parse().expect("the watcher says how long");
        assert!(
            slept <= number("RECALL_SLEEP", u64::from(u32::MAX)) as f64,
            "{}: {said}",
            node.name()
        );
    }
    let shown = nodes.map(|node| {
        node.run("cd /mfs/n3/data/d && ls -lR --time-style=full-iso && find . -type f | sort | xargs -r sha256sum")
    });
    assert_eq!(shown[0], shown[2], "RECALL_SEED={seed}: n1 and n3 do not agree");
    assert_eq!(shown[1], shown[2], "RECALL_SEED={seed}: n2 and n3 do not agree");
    for node in nodes {
        let memory = node.run("grep VmHWM /proc/$(pidof -s mount.mfs)/status | tr -dc 0-9");
        assert!(memory.parse::<u64>().unwrap() < MOST_MEMORY, "{}: {memory} kB", node.name());
    }
    let descriptors = home.run("ls /proc/$(pidof -s mfsd)/fd | wc -l");
    assert!(descriptors.parse::<u64>().unwrap() < MOST_DESCRIPTORS, "{descriptors} descriptors");
}
