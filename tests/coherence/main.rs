//! Programs and system calls on two nodes at a time, compared with what one machine would show: every case
//! between two remote mounts, between a remote and the home node's own mounts, and between a remote mount
//! and local processes of the home node.
//!
//! `COHERENCE_ROUNDS` says how often each case is played (3); in every second round the two change parts.
//! A case fails if one round of it fails.

// Cases are functions of this suite's own harness, which clippy does not know for tests.
#![allow(clippy::unwrap_used)]

mod actor;
mod appends;
mod attributes;
mod bounds;
mod data;
mod directories;
mod hand;
mod kept;
mod lengths;
mod links;
mod listings;
mod locks;
mod mappings;
mod messages;
mod names;
mod opens;
mod outcome;
mod programs;
mod races;
mod sizes;
mod stage;
mod sys;
mod turns;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use mfs::clock;

use outcome::Expected;
use stage::{Case, Stage};

/// All cases, by what they are about.
const ALL: &[(&str, &[Case])] = &[
    ("appends", appends::CASES),
    ("attributes", attributes::CASES),
    ("data", data::CASES),
    ("directories", directories::CASES),
    ("kept", kept::CASES),
    ("links", links::CASES),
    ("listings", listings::CASES),
    ("locks", locks::CASES),
    ("mappings", mappings::CASES),
    ("messages", messages::CASES),
    ("names", names::CASES),
    ("opens", opens::CASES),
    ("programs", programs::CASES),
    ("races", races::CASES),
    ("sizes", sizes::CASES),
    ("turns", turns::CASES),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--hand") {
        return hand::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let arguments = Arguments::from_args();
    let rounds = std::env::var("COHERENCE_ROUNDS")
        .map_or(3, |rounds| rounds.parse::<u32>().expect("COHERENCE_ROUNDS is a number of rounds"));
    outcome::keep_panics();
    let stage = Arc::new(Stage::default());
    let expected = Arc::new(Expected::read());
    let mut trials = Vec::new();
    let mut names = Vec::new();
    for (about, cases) in ALL {
        for case in *cases {
            for pair in case.pairs {
                let name = format!("{about}::{}@{}", case.name, pair.word());
                names.push(name.clone());
                let (stage, expected) = (Arc::clone(&stage), Arc::clone(&expected));
                trials.push(Trial::test(name.clone(), move || {
                    let begun = clock::now();
                    let played = (0..rounds).try_for_each(|round| {
                        outcome::guarded(|| stage.play(case, *pair, round, *about == "messages"))
                            .map_err(|said| format!("round {round}: {said}"))
                    });
                    lengths::note(&name, begun.elapsed());
                    expected.judge(&name, played).map_err(Failed::from)
                }));
            }
        }
    }
    let unknown = expected.unknown(&names);
    trials.push(Trial::test("expected::names_cases_only", move || match unknown.as_slice() {
        [] => Ok(()),
        unknown => Err(format!("no such case: {}", unknown.join(", ")).into()),
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    bounds::print();
    lengths::print();
    // Taking the laboratory down may find that something was left behind; that is a failure, too.
    drop(stage);
    conclusion.exit_code()
}
