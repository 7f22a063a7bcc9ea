//! Migration: the phases of a job's way to another node, as a machine without I/O and without a clock.
//!
//! The job's home drives it. It holds a stream to the node where the job runs (the *source*) and one to the
//! node where it is to run (the *target*). Until the target is told to let the job go, every phase can be
//! undone: the job runs on at the source, where it was only stopped. After that word the source's copy must
//! never run again, even if nobody hears any more whether the target's does: two of one job would be worse
//! than none.

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The source stops the job and makes images of it.
    Freeze,
    /// The target fetches the images and restores the job.
    Restore,
    /// The target was told to let it go.
    Thaw,
    /// The migration is over.
    Over,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The source has stopped the job, and there are images.
    Frozen,
    /// The source could not, and the job runs on; a sentence.
    NotFrozen(String),
    /// The target has restored the job and holds it.
    Restored,
    /// The target says that the job will not run there; a sentence.
    Refused(String),
    /// The stream to the target has ended without a word.
    TargetLost,
    /// The stream to the source has ended, or the job has.
    SourceLost,
    /// The job runs at the target.
    Runs,
    /// The phase has taken too long.
    Late,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have the source stop the job and make images.
    Freeze,
    /// Have the target fetch them and restore the job.
    Bring,
    /// Have the target let it go.
    LetGo,
    /// Have the source let it run on.
    RunOn,
    /// Have the source end its copy.
    EndSource,
    /// Close the stream to the target, which ends what it has.
    EndTarget,
    /// The migration is over.
    Finish(Outcome),
}

/// What became of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The job runs at the target.
    Moved,
    /// It runs where it was; a sentence.
    Stayed(String),
    /// Nobody knows whether it runs, so it is taken for lost; a sentence.
    Lost(String),
    /// It ended before it could move.
    Ended,
}

/// A migration under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    phase: Phase,
}

// === impl Phase ===

impl Phase {
    /// Its name for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Restore => "restore",
            Self::Thaw => "thaw",
            Self::Over => "done",
        }
    }
}

// === impl Migration ===

impl Migration {
    /// Begins; what is to be done first.
    pub fn begin() -> (Self, Vec<Action>) {
        (Self { phase: Phase::Freeze }, vec![Action::Freeze])
    }

    /// How far it is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes note of what happened; what is to be done, in this order.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        use Action::{Bring, EndSource, EndTarget, Finish, LetGo, RunOn};
        use Outcome::{Ended, Lost, Moved, Stayed};
        let (phase, actions) = match (self.phase, event) {
            (Phase::Freeze, Event::Frozen) => (Phase::Restore, vec![Bring]),
            (Phase::Freeze, Event::NotFrozen(why)) => (Phase::Over, vec![Finish(Stayed(why))]),
            (Phase::Freeze, Event::Late) => {
                let why = "it could not be frozen in time".to_owned();
                (Phase::Over, vec![RunOn, Finish(Stayed(why))])
            }
            (Phase::Freeze | Phase::Restore, Event::SourceLost) => {
                (Phase::Over, vec![EndTarget, Finish(Ended)])
            }
            (Phase::Restore, Event::Restored) => (Phase::Thaw, vec![LetGo]),
            (Phase::Restore | Phase::Thaw, Event::Refused(why)) => {
                (Phase::Over, vec![EndTarget, RunOn, Finish(Stayed(why))])
            }
            (Phase::Restore, Event::TargetLost) => {
                let why = "the node to which it was to move went away".to_owned();
                (Phase::Over, vec![EndTarget, RunOn, Finish(Stayed(why))])
            }
            (Phase::Restore, Event::Late) => {
                let why = "it could not be restored in time".to_owned();
                (Phase::Over, vec![EndTarget, RunOn, Finish(Stayed(why))])
            }
            (Phase::Thaw, Event::Runs) => (Phase::Over, vec![EndSource, Finish(Moved)]),
            (Phase::Thaw, Event::TargetLost | Event::Late) => {
                let why = "the node to which it moved went away with it".to_owned();
                (Phase::Over, vec![EndSource, EndTarget, Finish(Lost(why))])
            }
            // The source is not needed any more; what else comes is late news.
            (phase, _) => (phase, Vec::new()),
        };
        self.phase = phase;
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Event> {
        let why = String::new;
        vec![
            Event::Frozen,
            Event::NotFrozen(why()),
            Event::Restored,
            Event::Refused(why()),
            Event::TargetLost,
            Event::SourceLost,
            Event::Runs,
            Event::Late,
        ]
    }

    /// Where the job's copies are, as the actions have it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct World {
        source_runs: bool,
        source_is_there: bool,
        target_may_run: bool,
    }

    fn play(world: &mut World, actions: &[Action]) -> Option<Outcome> {
        let mut outcome = None;
        for action in actions {
            match action {
                Action::Freeze => world.source_runs = false,
                Action::Bring => assert!(!world.source_runs),
                Action::LetGo => world.target_may_run = true,
                Action::RunOn => world.source_runs = world.source_is_there,
                Action::EndSource => world.source_is_there = false,
                Action::EndTarget => {}
                Action::Finish(how) => outcome = Some(how.clone()),
            }
        }
        outcome
    }

    /// All orders of up to five events: never do two copies run, and a migration that ends leaves one.
    #[test]
    fn never_two_and_never_none_without_a_word() {
        let (begun, actions) = Migration::begin();
        let mut world = World { source_runs: true, source_is_there: true, target_may_run: false };
        assert_eq!(play(&mut world, &actions), None);
        let mut states = vec![(begun, world)];
        for _ in 0..5 {
            let mut next = Vec::new();
            for (migration, world) in &states {
                for event in all() {
                    let (mut migration, mut world) = (migration.clone(), *world);
                    // A copy that was told to stay refuses: the target's word is believed.
                    let refused = matches!(event, Event::Refused(_));
                    if event == Event::NotFrozen(String::new()) && migration.phase == Phase::Freeze
                    {
                        world.source_runs = true;
                    }
                    if event == Event::SourceLost {
                        world.source_is_there = false;
                        world.source_runs = false;
                    }
                    let was_over = migration.phase == Phase::Over;
                    let actions = migration.step(event);
                    if refused {
                        world.target_may_run = false;
                    }
                    let outcome = play(&mut world, &actions);
                    assert!(!(world.source_runs && world.target_may_run), "{migration:?}");
                    assert!(!was_over || actions.is_empty(), "after its end: {actions:?}");
                    assert_eq!(outcome.is_some(), !was_over && migration.phase == Phase::Over);
                    match outcome {
                        Some(Outcome::Moved) => assert!(world.target_may_run),
                        // One who stayed and is gone is noticed by the end of the source's stream.
                        Some(Outcome::Stayed(_)) => {
                            assert_eq!(world.source_runs, world.source_is_there);
                        }
                        Some(Outcome::Lost(_)) => assert!(!world.source_runs),
                        Some(Outcome::Ended) => assert!(!world.source_is_there),
                        None => {}
                    }
                    next.push((migration, world));
                }
            }
            next.dedup();
            states = next;
        }
    }

    #[test]
    fn the_usual_way() {
        let (mut migration, first) = Migration::begin();
        assert_eq!(first, [Action::Freeze]);
        assert_eq!(migration.step(Event::Frozen), [Action::Bring]);
        assert_eq!(migration.step(Event::Restored), [Action::LetGo]);
        let last = migration.step(Event::Runs);
        assert_eq!(last, [Action::EndSource, Action::Finish(Outcome::Moved)]);
        assert_eq!(migration.phase().name(), "done");
    }
}
