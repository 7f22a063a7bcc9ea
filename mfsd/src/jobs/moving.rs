//! Moving a job of this node: carries out what its `Migration` decides, between the node where it runs and the one
//! where it is to run.

use std::time::{Duration, Instant};

use mfs::clock;
use mfs::jobs::ImagesToken;
use mfs::jobs::migration::{Action, Event, Migration, Outcome, Phase};
use mfs::membership::Member;
use mfs::wire::moving::{FreezeJob, JobFrozen, RestoreJob};
use mfs_proto::v1;
use mfs_proto::v1::job_ended::How;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use rand::Rng;
use tokio::sync::mpsc;
use tonic::Status;

use super::State;
use super::carried::Carried;
use super::link::Link;

/// How long each phase may take before it is undone: memories of a hundred gigabytes take minutes.
const PATIENCE: Duration = Duration::from_secs(960);

/// Where it is told how far a migration is.
pub(super) type Progress = mpsc::UnboundedSender<Result<v1::MigrationProgress, Status>>;

/// A migration under way.
pub(super) struct Moving {
    migration: Migration,
    target: Member,
    link: Option<Link>,
    token: ImagesToken,
    frozen: Option<JobFrozen>,
    progress: Progress,
    deadline: Instant,
    /// Since when the job stands still.
    since: Option<Instant>,
    pid: u32,
    /// What it did before.
    was: State,
    /// Why, if it is by balancing.
    reason: Option<String>,
}

/// What is next.
pub(super) enum After {
    /// The job goes on, somewhere.
    Goes,
    /// It has ended so; `None`: nobody said how.
    Ended(Option<v1::JobEnded>),
}

// === impl Moving ===

impl Moving {
    /// What happens next at the target; never, if nothing moves.
    pub(super) async fn next(moving: &mut Option<Self>) -> Event {
        let Some(moving) = moving else { return std::future::pending().await };
        loop {
            let deadline = tokio::time::Instant::from_std(moving.deadline);
            let Some(link) = &mut moving.link else {
                tokio::time::sleep_until(deadline).await;
                return Event::Late;
            };
            tokio::select! {
                output = link.next() => match output {
                    Some(Output::Restored(_)) => return Event::Restored,
                    Some(Output::Started(started)) => {
                        moving.pid = started.pid;
                        return Event::Runs;
                    }
                    Some(Output::Fetched(bytes)) => moving.tell(bytes),
                    Some(Output::Ended(ended)) => return Event::Refused(reason(ended)),
                    Some(_) => {}
                    None => return Event::TargetLost,
                },
                () = tokio::time::sleep_until(deadline) => return Event::Late,
            }
        }
    }

    /// Tells who waits how far it is.
    fn tell(&self, bytes: u64) {
        let progress = v1::MigrationProgress {
            phase: self.migration.phase().name().to_owned(),
            bytes,
            total_bytes: self.frozen.as_ref().map_or(0, |frozen| frozen.bytes),
            node: self.target.name.to_string(),
            frozen_us: self.since.map_or(0, |since| {
                u64::try_from(clock::now().duration_since(since).as_micros()).unwrap_or(u64::MAX)
            }),
        };
        let _ = self.progress.send(Ok(progress)); // or nobody waits
    }
}

/// Why a node did not run it.
fn reason(ended: v1::JobEnded) -> String {
    match ended.how {
        Some(How::Failed(failure)) => failure.message,
        _ => "it ended before it was let go".to_owned(),
    }
}

// === impl Carried ===

impl Carried {
    /// Begins to move it.
    pub(super) async fn begin_moving(
        &mut self,
        target: Member,
        progress: Progress,
        reason: Option<String>,
    ) {
        let refuse = |why: String| {
            let _ = progress.send(Err(Status::failed_precondition(why))); // or nobody waits
        };
        if self.moving.is_some() {
            return refuse(format!("job {} is moving already", self.id()));
        }
        if self.host.as_ref().is_some_and(|host| host.member.id == target.id) {
            let here = v1::MigrationProgress {
                phase: Phase::Over.name().to_owned(),
                node: target.name.to_string(),
                ..v1::MigrationProgress::default()
            };
            let _ = progress.send(Ok(here)); // or nobody waits
            return;
        }
        let (migration, actions) = Migration::begin();
        let mut token = [0; 16];
        rand::rng().fill_bytes(&mut token);
        self.moving = Some(Moving {
            migration,
            target,
            link: None,
            token: ImagesToken(token),
            frozen: None,
            progress,
            deadline: clock::now() + PATIENCE,
            since: None,
            pid: 0,
            was: State::Running,
            reason,
        });
        if let Some(moving) = &mut self.moving {
            self.running
                .change(|job| moving.was = std::mem::replace(&mut job.state, State::Moving));
        }
        // The first action cannot end it.
        let _ = self.act(actions).await;
    }

    /// What the node that runs it says about moving.
    pub(super) async fn source_says(&mut self, output: Output) -> After {
        let event = match output {
            Output::Frozen(frozen) => match JobFrozen::try_from(frozen) {
                Ok(frozen) => {
                    let Some(moving) = &mut self.moving else { return After::Goes };
                    moving.frozen = Some(frozen);
                    Event::Frozen
                }
                Err(error) => Event::NotFrozen(error.to_string()),
            },
            Output::NotFrozen(why) => Event::NotFrozen(why),
            _ => return After::Goes,
        };
        self.moves(event).await
    }

    /// The node that ran it has nothing of it any more.
    pub(super) async fn source_is_lost(&mut self, ended: Option<v1::JobEnded>) -> After {
        if self.moving.is_none() {
            return After::Ended(ended);
        }
        match self.moves(Event::SourceLost).await {
            // It ended before it could move.
            After::Ended(None) => After::Ended(ended),
            after => after,
        }
    }

    /// Takes note of what happened.
    pub(super) async fn moves(&mut self, event: Event) -> After {
        let Some(moving) = &mut self.moving else { return After::Goes };
        let before = moving.migration.phase();
        let actions = moving.migration.step(event);
        let phase = moving.migration.phase();
        if phase != before {
            moving.deadline = clock::now() + PATIENCE;
            if phase != Phase::Over {
                moving.tell(0);
            }
        }
        self.act(actions).await
    }

    async fn act(&mut self, actions: Vec<Action>) -> After {
        let mut actions = std::collections::VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Freeze => self.freeze().await,
                Action::Bring => {
                    if let Err(why) = self.bring().await
                        && let Some(moving) = &mut self.moving
                    {
                        actions.extend(moving.migration.step(Event::Refused(why)));
                    }
                }
                Action::LetGo => {
                    if let Some(link) = self.moving.as_ref().and_then(|moving| moving.link.as_ref())
                    {
                        link.send(Input::Thaw(v1::ThawJob {})).await;
                    }
                }
                Action::RunOn => {
                    if let Some(host) = &self.host {
                        host.send(Input::Thaw(v1::ThawJob {})).await;
                    }
                }
                Action::EndSource => self.host = None,
                Action::EndTarget => {
                    if let Some(moving) = &mut self.moving {
                        moving.link = None;
                    }
                }
                Action::Finish(outcome) => return self.finish(outcome).await,
            }
        }
        After::Goes
    }

    async fn freeze(&mut self) {
        let Some(moving) = &mut self.moving else { return };
        moving.since = Some(clock::now());
        let freeze = FreezeJob { token: moving.token, target: moving.target.id };
        if let Some(host) = &self.host {
            host.send(Input::Freeze(freeze.into())).await;
        }
    }

    async fn bring(&mut self) -> Result<(), String> {
        let (Some(moving), Some(host)) = (&mut self.moving, &self.host) else { return Ok(()) };
        let frozen = moving.frozen.clone().ok_or("there are no images")?;
        let brought = RestoreJob {
            start: self.start.clone(),
            source: host.member.id,
            token: moving.token,
            frozen,
        };
        let link = Link::bring(&self.node, moving.target.clone(), brought, &self.caller).await?;
        moving.link = Some(link);
        Ok(())
    }

    async fn finish(&mut self, outcome: Outcome) -> After {
        let Some(moving) = self.moving.take() else { return After::Goes };
        let id = self.id();
        match outcome {
            Outcome::Moved => {
                moving.tell(moving.frozen.as_ref().map_or(0, |frozen| frozen.bytes));
                let reason = moving.reason.unwrap_or_default();
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                tracing::info!("job {id} runs on node {} now{why}", moving.target.name);
                self.host = moving.link;
                self.running.change(|job| {
                    job.node = moving.target.name.clone();
                    (job.pid, job.state) = (moving.pid, moving.was);
                    job.migrations += 1;
                    job.reason = reason;
                });
                self.put_what_waits(true).await;
                After::Goes
            }
            Outcome::Stayed(why) => {
                tracing::info!("job {id} stays where it is: {why}");
                self.running.change(|job| job.state = moving.was);
                let sentence = format!("job {id} runs on where it was: {why}");
                let _ = moving.progress.send(Err(Status::failed_precondition(sentence)));
                self.put_what_waits(false).await;
                After::Goes
            }
            Outcome::Lost(why) => {
                let sentence = format!("job {id} is lost: {why}");
                let _ = moving.progress.send(Err(Status::aborted(sentence)));
                After::Ended(Some(Self::lost(&why)))
            }
            Outcome::Ended => {
                let _ = moving.progress.send(Err(Status::not_found(format!("job {id} has ended"))));
                After::Ended(None)
            }
        }
    }
}
