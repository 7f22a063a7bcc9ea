//! What a mount remembers under leases costs no message, and is never old.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

/// What ends a wait that would never end.
const LONG: Duration = Duration::from_secs(60);

/// Requests that the mount has sent, by what `mfs stats --json` prints.
fn sent(figures: &str) -> i64 {
    let figures: Value = serde_json::from_str(figures).expect("mfs stats prints JSON");
    let sent = &figures["mounts"][0]["metrics"]["mfs_client_requests_sent_total"];
    let by_operation = sent.as_object().expect("some were sent");
    by_operation.values().filter_map(Value::as_i64).sum()
}

/// How many requests a line of shell takes in a directory, after another one.
fn requests_of(node: Node<'_>, directory: &str, before: &str, line: &str) -> i64 {
    // In one shell: the way to the directory may lead over file systems that cannot be watched.
    let figures = node.run(&format!(
        "cd {directory} && {{ {before}; }} >/dev/null; mfs stats --json; echo; echo ---; \
         {{ {line}; }} >/dev/null; mfs stats --json"
    ));
    let (first, second) = figures.split_once("---").expect("both were printed");
    sent(second) - sent(first)
}

#[test]
fn what_nobody_changed_is_asked_for_once() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir /data/d && cd /data/d && touch $(seq 1000) && ln -s 1 link");
    let directory = "/mfs/n2/data/d";
    for line in ["stat 1", "ls -l", "readlink link", "test -e absent", "stat $(seq 1000)"] {
        // Twice before: what was asked for until the connection was up is not remembered.
        let before = format!("{line}; {line}");
        assert_eq!(requests_of(n1, directory, &before, line), 0, "{line}: {}", n1.mount_figures());
    }
    assert_eq!(n1.run("ls /mfs/n2/data/d | wc -l"), "1001");
    // With a listing come the attributes of all files.
    n2.run("mkdir /data/e && cd /data/e && touch $(seq 1000)");
    assert_eq!(requests_of(n1, "/mfs/n2/data/e", "ls; stat 1", "stat $(seq 1000)"), 0);
    let figures = n1.mount_figures();
    assert!(figures["mfs_mount_cache_hits_total"]["lookup"].as_i64() > Some(1_000), "{figures}");
}

/// Fewer where fewer may be guarded, as mfsd may have less than 45,000 descriptors. Their times and numbers are not
/// those that git has noted at home, so that it reads them all. They lie on the tree's own file system: what is mounted
/// below it is not kept busy for long.
#[test]
fn ten_thousand_files_that_nobody_changed_are_looked_at_and_read_again_without_asking() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    let limit = n2.daemon_figures()["mfs_server_files_guarded_limit"].as_u64().unwrap_or(0);
    let directories = (limit * 9 / 1_000).min(100);
    assert!(directories > 30, "only {limit} files may be guarded");
    n2.run(&format!(
        "mkdir -p /srv/d && cd /srv/d && git init -q . && for d in $(seq {directories}); do
           mkdir $d && (cd $d && for f in $(seq 100); do echo $d $f >$f; done); done
         git add . && git -c user.name=x -c user.email=x@x -c gc.auto=0 commit -qm one",
    ));
    let git = "git --no-optional-locks -c safe.directory='*' status --porcelain";
    for line in [git, "for d in [0-9]*; do cat $d/*; done"] {
        let sent = requests_of(n1, "/mfs/n2/srv/d", &format!("{line}; {line}"), line);
        assert!(sent <= 100, "{sent} requests for `{line}`: {}", n1.mount_figures());
    }
    let figures = n2.daemon_figures();
    assert!(figures["mfs_server_files_guarded"].as_u64() >= Some(directories * 100), "{figures}");
}

#[test]
fn what_another_mount_changes_is_seen_at_once() {
    let cluster = Setup::nodes(3).up();
    let (n1, n2, n3) = (cluster.node(1), cluster.node(2), cluster.node(3));
    n2.run("mkdir /data/d && echo 1 >/data/d/f");
    for other in [n2, n3] {
        let look = || n1.run("cd /mfs/n2/data/d && stat -c '%s %a' f; ls; cat f");
        look();
        for size in 2..6 {
            other.run(&format!("cd /mfs/n2/data/d && printf '%0{size}d' 7 >f && chmod 6{size}0 f"));
            assert_eq!(look(), format!("{size} 6{size}0\nf\n{:0size$}", 7), "{}", other.name());
        }
        other.run("cd /mfs/n2/data/d && touch new && mkdir sub");
        assert_eq!(n1.run("ls /mfs/n2/data/d"), "f\nnew\nsub");
        other.run("cd /mfs/n2/data/d && mv new sub/moved && ln sub/moved hard");
        assert_eq!(
            n1.run("cd /mfs/n2/data/d && ls && stat -c %h hard sub/moved"),
            "f\nhard\nsub\n2\n2"
        );
        other.run("cd /mfs/n2/data/d && rm hard");
        assert_eq!(
            n1.run("cd /mfs/n2/data/d && stat -c %h sub/moved; ls; ls sub"),
            "1\nf\nsub\nmoved"
        );
        other.run("rm -r /mfs/n2/data/d/sub");
        assert_eq!(n1.run("ls /mfs/n2/data/d"), "f");
    }
}

#[test]
fn a_file_that_its_own_node_writes_past_the_server_is_seen_as_it_is() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("touch /data/f");
    n1.run("stat /mfs/n2/data/f");
    // One open for all of it: the server is told of it once.
    let sizes = n2.run(
        "exec 3>/mfs/n2/data/f; for i in 1 2 3; do echo line >&3; stat -c %s /mfs/n2/data/f; done",
    );
    assert_eq!(sizes, "5\n10\n15");
    assert_eq!(n1.run("stat -c %s /mfs/n2/data/f"), "15");
}

#[test]
fn the_data_of_what_the_kernel_forgets_is_given_back() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir /data/d && cd /data/d && for f in $(seq 100); do echo text >$f; done");
    let data_of_n1 = || {
        let held: Value = serde_json::from_str(&n2.run("mfs why /data/d/50 --json")).unwrap();
        let leases = held["leases"].as_array().unwrap().clone();
        let is_data = |lease: &Value| lease["leases"].to_string().contains("data");
        leases.iter().any(|lease| lease["node"] == "n1" && is_data(lease))
    };
    let load = "import mmap
for name in range(1, 101):
    with open(f'/mfs/n2/data/d/{name}') as file:
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[0]";
    eventually("n1 keeps pages of the files", LONG, || {
        n1.run(&format!("python3 -c \"{load}\""));
        data_of_n1()
    });
    let recalls = || n1.mount_figures()["mfs_client_recalls_received_total"].as_i64().unwrap();
    let before = recalls();
    // A remount drops every name that nobody uses (fs/super.c, reconfigure_super), and its file with it.
    let forget =
        "import ctypes; assert ctypes.CDLL(None).mount(None, b'/mfs', None, 32, None) == 0";
    n1.run(&format!("python3 -c \"{forget}\""));
    eventually("they are given back", LONG, || !data_of_n1());
    assert!(recalls() - before < 10, "each by itself: {}", n1.mount_figures());
}

#[test]
fn a_file_system_whose_files_are_remembered_can_be_unmounted() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir /data/m && mount -t tmpfs tmpfs /data/m && echo text >/data/m/f");
    for _ in 0..3 {
        assert_eq!(n1.run("cat /mfs/n2/data/m/f"), "text");
    }
    eventually("it is unmounted", LONG, || n2.try_run("umount /data/m").status.success());
}

/// As libraries are, which every process of every node has mapped.
#[test]
fn what_processes_of_its_home_read_too_is_kept_by_all_who_map_it() {
    let cluster = Setup::nodes(3).up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    n1.run("head -c 65536 /dev/urandom >/srv/library");
    let maps = "python3 -c 'import mmap, sys; f = open(\"/mfs/n1/srv/library\", \"rb\"); \
                m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); \
                sum(m[::4096]); open(\"/ready\", \"w\").close(); sys.stdin.read()'";
    let mut holders: Vec<_> = [n2, n3]
        .map(|node| {
            let mut holder = node.command("sh");
            holder.args(["-c", maps]).stdin(std::process::Stdio::piped());
            holder.spawn().expect("it starts")
        })
        .into();
    for node in [n2, n3] {
        eventually("it is mapped", LONG, || node.try_run("test -e /ready").status.success());
    }
    let mut local = n1.command("sh");
    local
        .args(["-c", "exec 4</srv/library; echo >/srv/open; exec cat"])
        .stdin(std::process::Stdio::piped());
    holders.push(local.spawn().expect("it starts"));
    eventually("it is open at home", LONG, || n1.try_run("test -e /srv/open").status.success());
    // Each round maps it anew, and takes its pages from what the kernel keeps.
    let round = "python3 -c 'import mmap, time\nfor _ in range(40):\n  f = open(\"/mfs/n1/srv/library\", \"rb\")\n  \
                 m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); sum(m[::4096]); m.close(); time.sleep(0.05)'";
    let read =
        || n2.mount_figures()["mfs_client_requests_sent_total"]["Read"].as_i64().unwrap_or(0);
    let before = read();
    n2.run(round);
    assert!(read() - before <= 2, "{} times 64 KiB were read again", read() - before);
    for mut holder in holders {
        drop(holder.stdin.take());
        holder.wait().expect("it was started");
    }
}
