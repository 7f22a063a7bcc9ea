//! `Carried`: a job of this node while it runs, here or elsewhere: its streams between the command and the node
//! that runs it, also while it moves.

use std::sync::Arc;

use mfs::jobs::JobId;
use mfs::membership::Member;
use mfs::types::Caller;
use mfs::wire::job::{StartJob, job_failed};
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use mfs_proto::v1::job_output::Kind as Output;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::home::message;
use super::link::Link;
use super::moving::{After, Moving};
use super::{Running, State, Wish};
use crate::node::Node;

/// Most messages that wait while a job moves; then whoever sends them waits.
const MOST_WAITING: usize = 256;

/// A job that runs.
pub(super) struct Carried {
    pub(super) node: Arc<Node>,
    pub(super) start: StartJob,
    pub(super) caller: Caller,
    pub(super) running: Running,
    wishes: mpsc::UnboundedReceiver<Wish>,
    outputs: mpsc::Sender<Result<v1::JobOutput, Status>>,
    /// The node that runs it; none: it is gone, and the job moves.
    pub(super) host: Option<Link>,
    pub(super) moving: Option<Moving>,
    /// What goes in when it has moved.
    waiting: Vec<Input>,
    input_has_ended: bool,
}

// === impl Carried ===

impl Carried {
    /// Has it begun on that node.
    pub(super) async fn begin(
        node: Arc<Node>,
        start: StartJob,
        caller: Caller,
        member: Member,
        running: Running,
        wishes: mpsc::UnboundedReceiver<Wish>,
        outputs: &mpsc::Sender<Result<v1::JobOutput, Status>>,
    ) -> Result<Self, String> {
        let start = StartJob { number: running.number, node: String::new(), ..start };
        let host = Some(Link::begin(&node, member, &start, &caller).await?);
        let outputs = outputs.clone();
        let (moving, waiting, input_has_ended) = (None, Vec::new(), false);
        Ok(Self {
            node,
            start,
            caller,
            running,
            wishes,
            outputs,
            host,
            moving,
            waiting,
            input_has_ended,
        })
    }

    /// Its id.
    pub(super) fn id(&self) -> JobId {
        let home = self.node.credentials().identity().name().clone();
        JobId { home, number: self.running.number }
    }

    /// Carries everything until the job has ended; `None` if nobody said how.
    pub(super) async fn carry(
        &mut self,
        mut inbound: Streaming<v1::JobInput>,
    ) -> Option<v1::JobEnded> {
        loop {
            let is_detached = self.start.detached;
            let has_room = self.waiting.len() < MOST_WAITING;
            tokio::select! {
                output = next_of(&mut self.host) => match output {
                    Some(output) => if let Some(ended) = self.hear(output).await? {
                        return Some(ended);
                    },
                    None => {
                        self.host = None;
                        let lost = self.source_is_lost(None).await;
                        if let After::Ended(ended) = lost {
                            return ended;
                        }
                    }
                },
                event = Moving::next(&mut self.moving) => {
                    if let After::Ended(ended) = self.moves(event).await {
                        return ended;
                    }
                }
                // Who asked is gone: so is the job, when its inputs end.
                input = inbound.message(), if has_room && !is_detached => {
                    match input.ok().flatten() {
                        Some(input) => self.put(input.kind).await,
                        None => return Some(Self::abandoned()),
                    }
                }
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Signal(signal) => self.put(Some(Input::Signal(signal))).await,
                    Wish::Move(target, progress, reason) => {
                        self.begin_moving(target, progress, reason).await;
                    }
                },
                () = self.outputs.closed(), if !is_detached => return Some(Self::abandoned()),
            }
        }
    }

    /// What comes from the node that runs it. `None`: the command is gone.
    async fn hear(&mut self, output: Output) -> Option<Option<v1::JobEnded>> {
        match output {
            Output::Ended(ended) => {
                self.host = None;
                if let After::Ended(ended) = self.source_is_lost(Some(ended)).await {
                    return Some(ended);
                }
            }
            Output::Started(started) => {
                self.running.change(|job| job.pid = started.pid);
                let node = self.host.as_ref().map(|host| host.member.name.to_string());
                let node = node.unwrap_or_default();
                let started = v1::JobStarted { id: self.id().to_string(), node, ..started };
                self.say(Output::Started(started)).await?;
            }
            Output::Stopped(signal) => {
                self.running.change(|job| job.state = State::Stopped);
                self.say(Output::Stopped(signal)).await?;
            }
            Output::Output(_) | Output::Error(_) | Output::Taken(_) => self.say(output).await?,
            of_moving => {
                if let After::Ended(ended) = self.source_says(of_moving).await {
                    return Some(ended);
                }
            }
        }
        Some(None)
    }

    /// Tells the command; `None`: it is gone. That of a detached job need not be there.
    async fn say(&mut self, output: Output) -> Option<()> {
        if self.start.detached {
            if matches!(output, Output::Started(_)) {
                let _ = self.outputs.try_send(Ok(message(output)));
            }
            return Some(());
        }
        self.outputs.send(Ok(message(output))).await.ok()
    }

    /// What goes into the job: at once, or when it has moved.
    async fn put(&mut self, input: Option<Input>) {
        let Some(input) = input else { return };
        match input {
            // Not the command's to say.
            Input::Start(_) | Input::Restore(_) | Input::Freeze(_) | Input::Thaw(_) => return,
            Input::InputEnd(_) => self.input_has_ended = true,
            // Whatever stopped it, this lets it go on.
            Input::Signal(libc::SIGCONT) => self.running.change(|job| {
                if job.state == State::Stopped {
                    job.state = State::Running;
                }
            }),
            _ => {}
        }
        if self.moving.is_some() {
            self.waiting.push(input);
        } else if let Some(host) = &self.host {
            host.send(input).await;
        }
    }

    /// What has waited goes in now. One that has moved is told again that its input has ended.
    pub(super) async fn put_what_waits(&mut self, has_moved: bool) {
        let waiting = std::mem::take(&mut self.waiting);
        let has_ended = v1::InputEnd {};
        let again = (has_moved && self.input_has_ended).then_some(Input::InputEnd(has_ended));
        for input in waiting.into_iter().chain(again) {
            if let Some(host) = &self.host {
                host.send(input).await;
            }
        }
    }

    /// The end of a job whose command is gone.
    fn abandoned() -> v1::JobEnded {
        job_failed("its `mfs run` has ended, and the job with it", super::home::LOST)
    }

    /// The end of a job whose node went away while it moved.
    pub(super) fn lost(why: &str) -> v1::JobEnded {
        job_failed(why, super::home::LOST)
    }
}

/// What comes next from the node that runs it; never, if there is none.
async fn next_of(host: &mut Option<Link>) -> Option<Output> {
    match host {
        Some(host) => host.next().await,
        None => std::future::pending().await,
    }
}
