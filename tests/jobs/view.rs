//! What a job sees, and as whom.

use mfs_tests::Setup;

use super::{shell, text};

#[test]
fn a_job_sees_the_tree_the_directory_and_the_name_of_its_home() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    n1.run("mkdir -p /data/d && echo here >/data/d/f");
    for node in ["n1", "n2", "n3"] {
        let run =
            |line: &str| n1.run(&format!("cd /data/d && mfs run -n {node} -- sh -c '{line}'"));
        assert_eq!(run("hostname; pwd; cat f"), "n1\n/data/d\nhere");
        assert_eq!(run("ls /mfs; cat /mfs/n2/etc/hostname"), "n1\nn2\nn3\nn2");
        assert_eq!(
            run("cut -d\" \" -f2 /proc/mounts | sort"),
            "/\n/dev\n/dev/pts\n/dev/shm\n/mfs\n/proc\n/sys"
        );
        run(&format!("echo {node} >made && mkdir -p dir && mv made dir/"));
        assert_eq!(n1.run("cat /data/d/dir/made"), node);
        // Its own processes and no others, and nothing open but its streams.
        assert_eq!(
            run("ls /proc/self/fd; test $(ls -d /proc/[0-9]* | wc -l) -lt 6 && echo few"),
            "0\n1\n2\n3\nfew"
        );
    }
    // What it runs on it finds out by /mfs/here alone.
    assert_eq!(n1.run("mfs run -n n3 -- readlink /mfs/here"), "n3");
}

#[test]
fn a_job_finds_its_home_and_what_it_selected() {
    let cluster = Setup::nodes(3).up();
    let n1 = cluster.node(1);
    for node in ["n1", "n2"] {
        let said = n1.run(&format!(
            "mfs run -n {node} -- sh -c 'readlink /mfs/home /mfs/here /mfs/lastexec; sh -c \"readlink /mfs/home\"'"
        ));
        assert_eq!(said, format!("n1\n{node}\n{node}\nn1"));
        let user = format!(
            "cd /tmp && setpriv --reuid 1000 --regid 1000 --clear-groups mfs run -n {node} -- \
             sh -c 'readlink /mfs/home; mfs select n3; readlink /mfs/selected; sh -c \"readlink /mfs/selected\"'"
        );
        assert_eq!(n1.run(&user), "n1\nn3\nn3");
    }
    // Who is no job is at home, whatever it calls itself.
    assert_eq!(cluster.node(2).run("readlink /mfs/home"), "n2");
    let posing = "cd /tmp && echo 'readlink /mfs/home; :' >keep && setpriv --reuid 1000 --regid 1000 --clear-groups \
                  bash -c 'exec -a mfs-init bash keep n3'";
    assert_eq!(cluster.node(2).run(posing), "n2");
}

#[test]
fn a_job_is_run_as_who_started_it_with_all_that_goes_with_it() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    let as_user = "setpriv --reuid 1000 --regid 1000 --groups 1000,44";
    let line =
        "id -u; id -g; id -G; umask; nice; ulimit -n; echo $WORD; grep CapEff /proc/self/status";
    let said = n1.run(&format!(
        "cd /tmp && umask 027 && ulimit -n 345 && export WORD=\"a b\" && nice -n 5 {as_user} mfs run -n n2 -- sh -c '{line}'"
    ));
    assert_eq!(said, "1000\n1000\n1000 44\n0027\n5\n345\na b\nCapEff:\t0000000000000000");
    // It gains nothing by it: neither here nor there.
    let refused = n1.refused(&format!(
        "cd /tmp && {as_user} mfs run -n n2 -- sh -c 'cat /etc/shadow; mount -o remount,rw /sys; kill -9 1; echo x >/etc/x'"
    ));
    assert!(refused.contains("Permission denied"), "{refused}");
    n1.run("test ! -e /etc/x");
}

#[test]
fn a_tmp_of_its_own_stays_where_it_ran() {
    let cluster = Setup::nodes(2).up();
    let n1 = cluster.node(1);
    n1.run("echo home >/tmp/f");
    assert_eq!(n1.run("mfs run -n n2 -- cat /tmp/f"), "home");
    let own = "mfs run -n n2 --local-tmp -- sh -c 'ls -A /tmp | wc -l; echo x >/tmp/g; cat /tmp/g'";
    assert_eq!(n1.run(own), "0\nx");
    n1.run("test ! -e /tmp/g");
    cluster.node(2).run("test ! -e /tmp/g");
}

#[test]
fn root_of_a_node_that_is_not_trusted_runs_nothing_elsewhere() {
    let cluster = Setup::nodes(2).up();
    let (n1, n2) = (cluster.node(1), cluster.node(2));
    n2.run("mkdir -p /etc/mfs && printf '[peer.n1]\\ntrust_root = false\\n' >/etc/mfs/mfsd.toml && chmod 600 /etc/mfs/mfsd.toml");
    n2.kill_daemon();
    n2.start();
    let tried = shell(n1, "mfs run -n n2 -- id -u", b"");
    assert_eq!(tried.status.code(), Some(126), "{}", text(&tried.stdout));
    assert!(
        text(&tried.stderr).contains("root of another node is nobody here"),
        "{}",
        text(&tried.stderr)
    );
    let user = "cd /tmp && setpriv --reuid 1000 --regid 1000 --clear-groups mfs run -n n2 -- id -u";
    assert_eq!(n1.run(user), "1000");
}
