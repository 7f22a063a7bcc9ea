//! Jobs that are moved because that is better.

use std::time::Duration;

use mfs_tests::{Node, Setup, eventually};
use serde_json::Value;

/// Moves are decided each second, of jobs that have run for some, and take a moment.
const LONG: Duration = Duration::from_secs(180);

/// The jobs that a node knows of.
fn jobs(node: Node<'_>) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&node.run("mfs ps --json")).expect("it prints JSON");
    shown["jobs"].as_array().expect("a list").clone()
}

#[test]
fn busy_jobs_spread_while_they_run_and_those_that_are_to_stay_do_not() {
    let cluster = Setup::nodes(3).cpus("0.4").up();
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    // All begin at home, since nobody else takes them; then the others do.
    n2.run("mfs block");
    n3.run("mfs block");
    let known = || n1.run("mfs nodes --json").matches("\"blocked\"").count() == 2;
    eventually("n1 knows that they are blocked", LONG, known);
    let busy = "while :; do :; done";
    let line = format!(
        "for n in 1 2 3; do mfs run -- sh -c '{busy}' & done; mfs run --stay -- sh -c '{busy}' & wait"
    );
    let mut many = n1.command("sh").args(["-c", &line]).spawn().expect("it starts");
    eventually("all run at home", LONG, || {
        let all = jobs(n1);
        all.len() == 4 && all.iter().all(|job| job["pid"] != 0 && job["node"] == "n1")
    });
    n2.run("mfs unblock");
    n3.run("mfs unblock");
    eventually("they are spread over all nodes", LONG, || {
        let nodes: std::collections::BTreeSet<_> =
            jobs(n1).iter().map(|job| job["node"].to_string()).collect();
        nodes.len() == 3
    });
    let all = jobs(n1);
    let moved: Vec<_> = all.iter().filter(|job| job["migrations"] != 0).collect();
    for job in &moved {
        assert!(job["reason"].as_str().is_some_and(|reason| reason.contains("node n")), "{job}");
    }
    let stays = all.iter().filter(|job| job["migrations"] == 0 && job["node"] == "n1").count();
    assert!(stays >= 1 && !moved.is_empty(), "{all:?}");
    n1.run("mfs kill -s KILL $(mfs ps --json | grep -o 'n1\\.[0-9]*')");
    many.wait().expect("it was started");
}
