//! Drives the session with one node: executes what the machine decides, over connections and a clock.
//!
//! One task for each node, which owns everything that belongs to it; so no node can delay another. It
//! needs only a tokio runtime with I/O and time, of whatever kind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::lane::{Generation, Greeting, OpenLane, Reports, Told};
use super::leases::{Answered, NodeLeases};
use super::quiet::Quiet;
use super::reach::{Loss, Reach};
use super::said::say;
use super::session::{Action, Event, Lane, Session, Submission};
use crate::clock;
use crate::failpoint::{self, Point};
use crate::membership::{Member, View};
use crate::net::{Connector, Fate, Pulse};
use crate::telemetry::metrics;
use crate::types::op::Outcome;
use crate::types::{Errno, NodeId, RequestId};
use crate::wire::{ClientMessage, features};

/// A connection without anything to do is cut after this.
const IDLE: Duration = Duration::from_secs(60);

/// How long the end of a session may take to be said.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a caller is answered through.
pub(super) type Answering = oneshot::Sender<Answered<Outcome>>;

/// What callers ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    /// Do this, and answer.
    Submit(Submission, Answering),
    /// Nobody waits for this any more.
    GiveUp(RequestId),
    /// End the session and the task; the answer comes when it is said.
    End(oneshot::Sender<()>),
}

/// The task of one node.
pub(super) struct Driver {
    node: NodeId,
    greeting: Greeting,
    connector: Arc<dyn Connector>,
    view: watch::Receiver<View>,
    session: Session,
    reach: Reach,
    pulse: Pulse,
    quiet: Quiet,
    leases: NodeLeases,
    verdict: Option<Errno>,
    callers: HashMap<RequestId, Answering>,
    control: Option<OpenLane>,
    bulk: Option<OpenLane>,
    generation: Generation,
    reports: Reports,
    told: mpsc::UnboundedReceiver<(Lane, Generation, Told)>,
    last_use: Instant,
    /// Until then the node may wait with changes for this client to greet: it does not know that what was
    /// remembered went with the connection.
    awaited_until: Option<Instant>,
    /// Not before this is the bulk connection tried again.
    bulk_after: Instant,
}

/// The time of the runtime's timers, so that tests which hold the one hold the other.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

// === impl Driver ===

impl Driver {
    /// The task of `node`, not running yet.
    pub(super) fn new(
        node: NodeId,
        greeting: Greeting,
        connector: Arc<dyn Connector>,
        view: watch::Receiver<View>,
        session: Session,
        quiet: Quiet,
        leases: NodeLeases,
    ) -> Self {
        let now = now();
        let (reports, told) = mpsc::unbounded_channel();
        Self {
            node,
            greeting,
            connector,
            view,
            session,
            reach: Reach::new(now),
            pulse: Pulse::default(),
            quiet,
            leases,
            verdict: None,
            callers: HashMap::new(),
            control: None,
            bulk: None,
            generation: 0,
            reports,
            told,
            last_use: now,
            awaited_until: None,
            bulk_after: now,
        }
    }

    /// Runs until there are no callers any more, or the node is no member any more.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.look_at_view();
        let mut ended = None;
        loop {
            let wake = self.maintain();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Submit(submission, answering)) => {
                        self.submit(submission, answering);
                    }
                    Some(Command::GiveUp(id)) => self.give_up(id),
                    Some(Command::End(done)) => {
                        ended = Some(done);
                        break;
                    }
                    None => break,
                },
                Some((lane, generation, told)) = self.told.recv() => {
                    self.hear(lane, generation, told);
                }
                returned = self.leases.returned() => {
                    if let Some(open) = &self.control {
                        open.send(ClientMessage::Return(returned));
                    }
                }
                changed = self.view.changed() => match changed {
                    Ok(()) => self.look_at_view(),
                    Err(_) => break, // the mount ends
                },
                () = sleep => self.step(Event::Tick),
            }
            if self.reach.is_removed() {
                tracing::info!("node {} is no member any more", self.node.short());
                break;
            }
        }
        self.leases.end();
        commands.close();
        for (_, answering) in self.callers.drain() {
            drop(answering.send(Answered::without(Err(Errno::HostDown))));
        }
        if let Some(control) = self.control.take() {
            control.finish(GOODBYE).await;
        }
        if let Some(ended) = ended {
            let _ = ended.send(()); // nobody need wait for it
        }
    }

    fn submit(&mut self, submission: Submission, answering: Answering) {
        let now = now();
        self.last_use = now;
        if self.view.has_changed().unwrap_or_default() {
            self.look_at_view(); // a caller that knows the news must not be told what is old
        }
        self.reach.note_interest(now);
        self.judge(now);
        self.callers.insert(submission.id, answering);
        self.step(Event::Submit(submission));
    }

    fn give_up(&mut self, id: RequestId) {
        if self.callers.remove(&id).is_some() {
            self.step(Event::GiveUp(id));
        }
    }

    fn hear(&mut self, lane: Lane, generation: Generation, told: Told) {
        if self.lane(lane).as_ref().is_none_or(|open| open.generation != generation) {
            return; // of a connection that was cut
        }
        let now = now();
        match told {
            Told::Reply(reply) => self.step(Event::Reply(reply)),
            Told::Recall(recall) => {
                let given_back = self.leases.give_back(recall);
                failpoint::reach(Point::Recalled, || "");
                if let (Some(given_back), Some(open)) = (given_back, self.lane(lane)) {
                    open.send(ClientMessage::Return(given_back));
                }
            }
            Told::Up(welcome) => {
                if lane == Lane::Control {
                    tracing::debug!("connected to {} ({})", welcome.name, welcome.software);
                    self.reach.note_connected(now);
                    self.judge(now);
                    self.leases.begin(&welcome);
                    self.awaited_until = None;
                }
                self.step(Event::Up(lane, welcome));
            }
            Told::Down(loss) => {
                tracing::debug!("{lane:?} connection to node {}: {loss}", self.node.short());
                *self.lane(lane) = None;
                self.go_down(lane);
                match lane {
                    Lane::Control => self.lose(now, &loss),
                    // The host's silence concerns both connections; anything else only this one.
                    Lane::Bulk if loss == Loss::Silent => {
                        self.cut(Lane::Control);
                        self.lose(now, &loss);
                    }
                    Lane::Bulk => self.bulk_after = now + Duration::from_millis(200),
                }
            }
        }
    }

    /// The control connection ended, or could not be made.
    fn lose(&mut self, now: Instant, loss: &Loss) {
        self.cut(Lane::Bulk);
        self.reach.note_loss(now, loss);
        self.quiet.note_loss(now, loss);
        self.judge(now);
        if let Some(errno) = self.verdict {
            tracing::info!("node {} cannot be reached ({errno}): {loss}", self.node.short());
        }
    }

    fn give_up_connections(&mut self, now: Instant, why: &str) {
        self.cut(Lane::Bulk);
        self.cut(Lane::Control);
        self.reach.note_loss(now, &Loss::Ended(why.to_owned()));
    }

    fn look_at_view(&mut self) {
        let now = now();
        let member = self.view.borrow_and_update().by_id(self.node).cloned();
        self.reach.hear(now, member.as_ref(), self.quiet.is_silent());
        self.judge(now);
    }

    /// Tells the machine whether the node is away.
    fn judge(&mut self, now: Instant) {
        let verdict = self.reach.verdict(now);
        if verdict != self.verdict {
            self.verdict = verdict;
            self.step(verdict.map_or(Event::Back, Event::Away));
        }
    }

    /// Makes and cuts connections as they are needed; says when to look again.
    fn maintain(&mut self) -> Option<Instant> {
        let now = now();
        self.judge(now);
        if !self.reach.is_member(now) && self.control.is_some() {
            self.give_up_connections(now, "it is no member any more, or declared dead");
        }
        let wanted =
            self.session.wants_connection() || self.awaited_until.is_some_and(|at| now < at);
        let mut wake = self.session.next_deadline();
        let mut also = |at: Instant| wake = Some(wake.map_or(at, |wake| wake.min(at)));
        self.reach.dies_at(now).into_iter().for_each(&mut also);
        if self.control.is_none() {
            match self.reach.attempt_at(now, wanted) {
                Some(at) if at <= now => self.connect(Lane::Control),
                Some(at) => also(at),
                None => {}
            }
        } else if !wanted {
            if self.last_use + IDLE <= now && self.leases.was_used() {
                self.last_use = now;
            }
            let idle_at = self.last_use + IDLE;
            if idle_at <= now {
                // The session owns nothing: the server need not wait for its lease to end.
                if let Some(control) = self.control.take() {
                    tokio::spawn(control.finish(GOODBYE));
                    self.go_down(Lane::Control);
                    self.awaited_until = None;
                }
                self.give_up_connections(now, "nothing is asked of it");
            } else {
                also(idle_at);
            }
        }
        if self.session.wants_bulk() && self.bulk.is_none() && self.session.is_up(Lane::Control) {
            if self.bulk_after <= now { self.connect(Lane::Bulk) } else { also(self.bulk_after) }
        }
        if let Some(due) = self.session.renewal_due().filter(|_| self.leases.is_holding()) {
            let left = due.saturating_sub(clock::since_boot());
            if left.is_zero() {
                self.step(Event::Renew);
            }
            let at = now + if left.is_zero() { self.session.renewal_interval() } else { left };
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        // A connection that is being made waits for an answer, too; between two attempts nothing can come.
        let dialling = !self.session.is_up(Lane::Control);
        let awaiting = self.control.is_some() && (dialling || self.session.awaits_answer());
        if let Some(at) = self.quiet.look(now, awaiting, self.pulse.beats()) {
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        wake
    }

    fn connect(&mut self, lane: Lane) {
        let Some(member) = self.member() else { return };
        self.generation += 1;
        let features = self.leases.features() | features::REPLIES;
        let hello = self.greeting.hello(lane, features, self.session.identity());
        let open = OpenLane::begin(
            Arc::clone(&self.connector),
            member,
            hello,
            self.generation,
            self.reports.clone(),
            Fate::new(self.pulse.clone()),
        );
        *self.lane(lane) = Some(open);
    }

    fn member(&self) -> Option<Member> {
        self.view.borrow().by_id(self.node).cloned()
    }

    fn lane(&mut self, lane: Lane) -> &mut Option<OpenLane> {
        match lane {
            Lane::Control => &mut self.control,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn cut(&mut self, lane: Lane) {
        if self.lane(lane).take().is_some() {
            self.go_down(lane);
        }
    }

    /// A connection is gone: what was remembered because of it goes first.
    fn go_down(&mut self, lane: Lane) {
        if lane == Lane::Control
            && let Some(term) = self.leases.end()
        {
            self.awaited_until = Some(now() + term);
        }
        self.step(Event::Down(lane));
    }

    fn step(&mut self, event: Event) {
        for action in self.session.step(now(), clock::since_boot(), event) {
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Send { lane, request, again } => {
                if again {
                    metrics::CLIENT_REQUESTS_REPEATED.add_one();
                }
                metrics::CLIENT_REQUESTS_SENT.count(&request.operation);
                if let Some(open) = self.lane(lane) {
                    open.send(ClientMessage::Request(request));
                }
            }
            Action::Cancel(lane, id) => {
                if let Some(open) = self.lane(lane) {
                    open.send(ClientMessage::Cancel(id));
                }
            }
            Action::Renew(id) => {
                if let Some(open) = &self.control {
                    metrics::CLIENT_RENEWALS_SENT.add_one();
                    open.send(ClientMessage::Renew(id));
                }
            }
            Action::Extended(sent) => self.leases.extend(sent),
            Action::Answer(id, answer) => {
                if let Some(answering) = self.callers.remove(&id) {
                    drop(answering.send(answer)); // a caller that is gone gave up
                }
            }
            Action::Close(lane) => {
                let now = now();
                let was_open = self.lane(lane).is_some();
                self.cut(lane);
                if was_open && lane == Lane::Control {
                    self.reach.note_loss(now, &Loss::Ended("the session is over".to_owned()));
                }
            }
            Action::Note(note) => say(self.node, &note),
        }
    }
}
