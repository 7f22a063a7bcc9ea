//! Broken rules: what the checkers must find. The switch is in the worlds, never in the product.

use crate::exhaustive::{explore, worlds};
use crate::world::Setup;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident in $world:ident)*) => {
        /// A rule of `mfs::lease` that a world does not keep.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Mutant { $($(#[doc = $doc])+ $name),* }

        /// Each, and the world in which it shows.
        const MUTANTS: &[(Mutant, fn() -> Setup)] = &[$((Mutant::$name, worlds::$world)),*];
    };
}

mutants! {
    /// Rule 1: an answer is granted what a change was announced on.
    GrantDuringChange in evicting
    /// Rule 2: a change is made before the recalls are answered.
    ApplyEarly in three_clients
    /// Rule 2: the victim of a name is not asked for from who removes the name.
    VictimUnasked in victim
    /// Rule 3: a reading begins only after the tree was looked at.
    ReadingTooLate in three_clients
    /// Rule 3: what local processes changed is not taken note of before something is granted.
    QueueNotDrained in local
    /// Rule 4: an answer is remembered whatever happened since it was asked for.
    StampIgnored in three_clients
    /// Rule 5: a client remembers what it is told of what it is changing.
    OwnChangeUsed in changer
    /// Rule 6: what is returned of one's own motion is taken at once.
    ReturnAtOnce in evicting
    /// Rule 7: a client counts its term from the answer.
    TermFromAnswer in late
    /// Rule 8: a client goes on using what it remembered when its term was over.
    LapseIgnored in lapsing
    /// Rule 8: an answer that is repeated grants what it granted at first.
    RepeatGrants in breaking
    /// Rule 8: a greeting counts although a later one came first.
    LateGreeting in breaking
    /// Rule 9: a new server does not wait for the clients of the one before.
    NoGrace in killed
}

#[test]
fn every_broken_rule_is_found() {
    for (mutant, world) in MUTANTS {
        let setup = Setup { mutant: Some(*mutant), ..world() };
        match explore(&setup, 200_000) {
            Ok(count) => panic!("nobody sees that a rule is broken: {mutant:?}, {count:?}"),
            Err(wrong) => println!("{mutant:?}: {}", wrong.lines().next().unwrap_or("")),
        }
    }
}
