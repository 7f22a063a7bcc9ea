//! Rules about what stands where: file heads and sizes, layers, and what only certain files may mention.

use super::source::{has_word, nobody, project, sources};

/// Longest file, in lines before its tests.
const LONGEST: usize = 600;

/// The kernel port of the mount: the files that another FUSE transport would replace.
const KERNEL_PORT: [&str; 6] = [
    "mfs-fuse/src/contain/mod.rs",
    "mfs-fuse/src/dispatch.rs",
    "mfs-fuse/src/invalidate.rs",
    "mfs-fuse/src/passthrough.rs",
    "mfs-fuse/src/reply.rs",
    "mfs-fuse/src/session.rs",
];

/// Where generated messages may be seen: the conversion, and the edges that send and receive them.
const WIRE_EDGES: [&str; 12] = [
    "proto/",
    "src/wire/",
    "src/client/lane.rs",
    "src/client/testing/",
    "src/net/local.rs",
    "src/bin/mfs/cluster/",
    "src/bin/mfs/jobs/",
    "mfsd/src/rpc/",
    "mfsd/src/local/",
    "mfsd/src/cluster/",
    "mfsd/src/jobs/",
    "tests/",
];

/// The one place that hands the services to the listener.
const COMPOSITION: &str = "mfsd/src/node/parts.rs";

/// Where arguments and environment are read.
fn reads_environment(path: &str) -> bool {
    // `mfs lab exec` gives the caller's own PATH to what it runs, as env(1) does.
    // `mfs run` takes the environment along.
    let passes_on = ["src/bin/mfs/lab/enter.rs", "src/bin/mfs/jobs/along.rs"].contains(&path);
    path.ends_with("/main.rs")
        || path.ends_with("build.rs")
        || path.starts_with("src/config/")
        || passes_on
}

#[test]
fn every_file_opens_with_what_it_is() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! "));
    nobody("a file opens with `//!` and what it is:", silent.map(|s| s.path).collect());
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let long = sources().into_iter().filter(|s| s.code_lines() > LONGEST);
    nobody(
        "a file has 600 lines at most before its tests; split it by idea:",
        long.map(|s| format!("{}: {} lines", s.path, s.code_lines())).collect(),
    );
}

#[test]
fn layers_point_downwards() {
    let library = std::fs::read_to_string(project().join("src/lib.rs")).unwrap();
    let order: Vec<_> = library
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(order.len() > 8, "src/lib.rs no longer lists the layers as this rule reads them");
    let rank = |module: &str| order.iter().position(|m| *m == module);
    let mut upwards = Vec::new();
    for source in sources() {
        let Some(below) = source.path.strip_prefix("src/") else { continue };
        let own = below.split('/').next().unwrap_or(below).trim_end_matches(".rs");
        let Some(own_rank) = rank(own) else { continue };
        for (number, line) in source.shipped() {
            for (at, path) in line.match_indices("crate::") {
                let used: String = line[at + path.len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if rank(&used).is_some_and(|used_rank| used_rank > own_rank) {
                    upwards.push(source.at(number, line));
                }
            }
        }
    }
    nobody("a layer of src/ knows only those before it in src/lib.rs:", upwards);
}

#[test]
fn server_and_mount_do_not_know_each_other() {
    for (package, other) in [("mfsd", "mfs-fuse"), ("mfs-fuse", "mfsd")] {
        let manifest = project().join(package).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let known = manifest.lines().any(|line| line.starts_with(other));
        assert!(!known, "{package} depends on {other}; what both need belongs into src/");
    }
}

#[test]
fn fuser_is_named_in_the_kernel_port_only() {
    offenders_of("fuser::", "only the kernel port names fuser:", |path| {
        KERNEL_PORT.contains(&path)
    });
}

#[test]
fn generated_messages_stay_at_the_edges() {
    let edge =
        |path: &str| path == COMPOSITION || WIRE_EDGES.iter().any(|edge| path.starts_with(edge));
    offenders_of("mfs_proto", "generated messages are seen by wire and the edges only:", edge);
}

#[test]
fn unsafe_code_is_in_sys_files_only() {
    let allowed = |path: &str| path.ends_with("/sys.rs") || path.starts_with("tests/tidy/");
    offenders_of("unsafe", "unsafe code belongs into a file named sys.rs:", allowed);
}

#[test]
fn locks_come_from_one_door() {
    let door = |path: &str| path == "src/sync.rs";
    offenders_of("parking_lot", "locks come from mfs::sync:", door);
    let mut others = Vec::new();
    for source in sources().iter().filter(|s| !door(&s.path)) {
        for (number, line) in source.shipped() {
            let poisons = line.contains("std::sync::")
                && ["Mutex", "RwLock", "Condvar"].iter().any(|lock| has_word(line, lock));
            if poisons {
                others.push(source.at(number, line));
            }
        }
    }
    nobody("locks come from mfs::sync:", others);
}

#[test]
fn nothing_shipped_panics_because_nobody_reads() {
    // Cargo reads what a build script says.
    let allowed = |path: &str| path.ends_with("build.rs");
    let rule =
        "print! and its kin panic on a closed pipe or a full disk; write and heed the result:";
    offenders_of("println!", rule, allowed);
    let macros = ["print!(", "eprint!(", "eprintln!("];
    let mut offenders = Vec::new();
    for source in sources() {
        for (number, line) in source.shipped() {
            let code = line.trim_start();
            if macros
                .iter()
                .any(|word| code.starts_with(word) || code.contains(&format!(" {word}")))
            {
                offenders.push(source.at(number, line));
            }
        }
    }
    nobody(rule, offenders);
}

#[test]
fn only_main_and_config_read_the_environment() {
    let mut readers = Vec::new();
    for source in sources().iter().filter(|s| !reads_environment(&s.path)) {
        for (number, line) in source.shipped() {
            if ["env::var", "env::args"].iter().any(|reading| line.contains(reading)) {
                readers.push(source.at(number, line));
            }
        }
    }
    nobody("arguments and environment are read in main.rs and config only:", readers);
}

/// Fails if shipped lines of files other than the allowed ones have the word.
fn offenders_of(word: &str, rule: &str, allowed: impl Fn(&str) -> bool) {
    let mut offenders = Vec::new();
    let mut seen = false;
    for source in sources() {
        for (number, line) in source.shipped().filter(|(_, line)| has_word(line, word)) {
            seen |= allowed(&source.path);
            if !allowed(&source.path) {
                offenders.push(source.at(number, line));
            }
        }
    }
    nobody(rule, offenders);
    assert!(seen, "`{word}` is nowhere at all: this rule checks nothing any more");
}
