//! `Server`: the tree's server, as `mfsd` uses the grantor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mfs::lease::{Action, Event, Grace, Grantor, Reading, Terms, Touch};
use mfs::types::SessionId;

use crate::mutants::Mutant;
use crate::tree::{Object, Values};
use crate::world::{Message, Packet, Rules, Step, TERM, World};

#[derive(Debug, Clone, Hash)]
pub(crate) struct Server {
    terms: Terms,
    pub(crate) grantor: Grantor,
    sessions: BTreeMap<SessionId, Served>,
    jobs: BTreeMap<u64, Job>,
    /// What a thread was answered last; a request that is repeated is not done again.
    answers: BTreeMap<usize, (u64, Values, Vec<Touch>)>,
    last_job: u64,
    last_session: u64,
    /// Clients that may hold something; survives the server.
    granted_to: BTreeSet<u64>,
}

#[derive(Debug, Clone, Hash)]
struct Served {
    client: usize,
    link: u32,
    heard: Duration,
}

/// A request that the server works on.
#[derive(Debug, Clone, Hash)]
struct Job {
    session: SessionId,
    client: usize,
    thread: usize,
    seq: u64,
    step: Step,
    stage: Stage,
}

#[derive(Debug, Clone, Hash)]
enum Stage {
    /// The tree was looked at.
    Read { reading: Reading, values: Values },
    /// A change is announced; whether it is admitted, and whether its victim is known.
    Announced { admitted: bool, complete: bool },
    /// It was made.
    Applied { reading: Reading, values: Values },
}

// === impl Server ===

impl Server {
    pub(crate) fn new(terms: Terms, grace: Option<Grace>) -> Self {
        Self {
            terms,
            grantor: Grantor::new(terms, grace),
            sessions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_job: 0,
            last_session: 0,
            granted_to: BTreeSet::new(),
        }
    }

    /// A request, for people.
    pub(crate) fn describe(&self, id: u64) -> String {
        self.jobs.get(&id).map_or_else(String::new, |Job { client, step, stage, .. }| {
            format!("the server goes on with {id}, {step:?} of client {client}: {stage:?}")
        })
    }

    /// The requests that can go on.
    pub(crate) fn advanceable(&self, rules: &Rules) -> impl Iterator<Item = u64> {
        let early = rules.breaks_rule(Mutant::ApplyEarly);
        let ready = move |job: &Job| match job.stage {
            Stage::Announced { admitted, .. } => admitted || early,
            Stage::Read { .. } | Stage::Applied { .. } => true,
        };
        self.jobs.iter().filter(move |(_, job)| ready(job)).map(|(id, _)| *id)
    }
}

// === impl World ===

impl World {
    pub(crate) fn step(&mut self, event: Event) {
        for action in self.server.grantor.step(self.now, event) {
            match action {
                Action::Recall(session, recall, touches) => {
                    if let Some(Served { client, link, .. }) = self.server.sessions.get(&session) {
                        let (client, link) = (*client, *link);
                        self.send(client, link, Message::Recall(session, recall, touches));
                    }
                }
                Action::Admit(id) => {
                    match self.server.jobs.get_mut(&id).map(|job| &mut job.stage) {
                        Some(Stage::Announced { admitted, .. }) if !*admitted => *admitted = true,
                        _ if self.rules.breaks_rule(Mutant::ApplyEarly) => {}
                        other => {
                            let what = format!("admitted in vain: {other:?}");
                            self.fail(what);
                        }
                    }
                }
                Action::Cut(session) => self.end_session(session),
            }
        }
    }

    pub(crate) fn receive(&mut self, packet: Packet) {
        let Packet { client, link, message } = packet;
        let session = match &message {
            Message::Hello(session) => return self.greet(client, link, *session),
            Message::Request { session, .. } => *session,
            Message::Renew(session, _) | Message::Return(session, ..) => *session,
            _ => return self.fail(format!("not for a server: {message:?}")),
        };
        let Some(served) = self.server.sessions.get_mut(&session) else { return };
        served.heard = self.now;
        let link = served.link;
        self.step(Event::Heard(session));
        match message {
            Message::Renew(_, sent) => self.send(client, link, Message::Renewed(sent)),
            Message::Return(_, recall, touches) => {
                let at_once = recall == 0 && self.rules.breaks_rule(Mutant::ReturnAtOnce);
                let event = Event::Returned(session, recall, touches);
                if at_once {
                    for action in self.server.grantor.step(self.now, event) {
                        if let Action::Recall(session, recall, touches) = action {
                            self.step(Event::Returned(session, recall, touches));
                        }
                    }
                } else {
                    self.step(event);
                }
            }
            Message::Request { seq, thread, step, .. } => match self.server.answers.get(&thread) {
                Some((last, values, granted)) if *last == seq => {
                    let repeat = self.rules.breaks_rule(Mutant::RepeatGrants);
                    let granted = if repeat { granted.clone() } else { vec![] };
                    let values = values.clone();
                    self.send(client, link, Message::Reply { seq, thread, values, granted });
                }
                Some((last, ..)) if *last > seq => {}
                _ => self.begin(session, client, thread, seq, step),
            },
            _ => {}
        }
    }

    fn greet(&mut self, client: usize, link: u32, wanted: Option<SessionId>) {
        let sessions = &mut self.server.sessions;
        // A greeting that was overtaken by a later one of the same client says nothing any more.
        let overtaken =
            sessions.values().any(|served| served.client == client && served.link > link);
        let late = self.rules.breaks_rule(Mutant::LateGreeting);
        if overtaken && !late {
            return;
        }
        let known = wanted.filter(|session| sessions.contains_key(session));
        let session = known.unwrap_or_else(|| {
            self.server.last_session += 1;
            SessionId::new(self.server.last_session).expect("counted from 1")
        });
        let newest = sessions.get(&session).map_or(link, |served| served.link.max(link));
        sessions.insert(session, Served { client, link: newest, heard: self.now });
        self.step(Event::Attached(session));
        self.step(Event::Greeted(client as u64));
        self.send(client, link, Message::Welcome { session, resumed: known.is_some() });
    }

    fn begin(&mut self, session: SessionId, client: usize, thread: usize, seq: u64, step: Step) {
        if self.server.jobs.values().any(|job| job.thread == thread && job.seq == seq) {
            return;
        }
        self.server.last_job += 1;
        let id = self.server.last_job;
        let mut touches = step.touches();
        let objects = match step {
            Step::Read(object) => vec![object],
            Step::Lookup(at) => {
                let child = self.tree.victim(at).map(Object::File);
                [Object::Names(at)].into_iter().chain(child).collect()
            }
            _ => vec![],
        };
        let mut stage = Stage::Announced { admitted: false, complete: false };
        if touches.is_empty() {
            let reading = self.server.grantor.begin_reading();
            stage = Stage::Read { reading, values: self.tree.read(objects) };
        } else if self.rules.breaks_rule(Mutant::VictimUnasked) {
            touches.extend(self.victim(step).map(Object::touch));
            stage = Stage::Announced { admitted: false, complete: true };
        }
        self.server.jobs.insert(id, Job { session, client, thread, seq, step, stage });
        if !touches.is_empty() {
            self.step(Event::Change { id, session: Some(session), touches });
        }
    }

    fn victim(&self, step: Step) -> Option<Object> {
        match step {
            Step::Create(at) | Step::Unlink(at) => self.tree.victim(at).map(Object::File),
            _ => None,
        }
    }

    pub(crate) fn advance(&mut self, id: u64) {
        let Some(job) = self.server.jobs.get(&id).cloned() else { return };
        match job.stage {
            Stage::Read { ref reading, ref values } => {
                let reading = reading.clone();
                let reading = if self.rules.breaks_rule(Mutant::ReadingTooLate) {
                    self.server.grantor.end_reading(reading);
                    self.server.grantor.begin_reading()
                } else {
                    reading
                };
                let values = values.clone();
                self.answer(id, &job, reading, values);
            }
            Stage::Announced { complete: false, .. } if self.victim(job.step).is_some() => {
                let touches = self.victim(job.step).map(Object::touch).into_iter().collect();
                if let Some(job) = self.server.jobs.get_mut(&id) {
                    job.stage = Stage::Announced { admitted: false, complete: true };
                }
                self.step(Event::Extend { id, touches });
            }
            Stage::Announced { .. } => {
                let reading = self.server.grantor.begin_reading();
                let objects = self.apply_change(job.step);
                let stage = Stage::Applied { reading, values: self.tree.read(objects) };
                if let Some(job) = self.server.jobs.get_mut(&id) {
                    job.stage = stage;
                }
            }
            Stage::Applied { ref reading, ref values } => {
                let (reading, values) = (reading.clone(), values.clone());
                self.answer(id, &job, reading, values);
            }
        }
    }

    /// What the answer to the change tells.
    fn apply_change(&mut self, step: Step) -> Vec<Object> {
        let victim = self.victim(step);
        victim.into_iter().for_each(|victim| self.tree.change(victim));
        for object in step.touches().into_iter().flat_map(Object::covered_by) {
            self.tree.change(object);
        }
        match step {
            Step::Change(file) => vec![Object::File(file)],
            Step::Create(at) => {
                let file = Object::File(self.tree.create(at));
                vec![Object::Names(at), file]
            }
            Step::Unlink(at) => {
                self.tree.unlink(at);
                vec![Object::Names(at)]
            }
            Step::Read(_) | Step::Lookup(_) | Step::Evict(_) => vec![],
        }
    }

    fn answer(&mut self, id: u64, job: &Job, reading: Reading, values: Values) {
        if !self.rules.breaks_rule(Mutant::QueueNotDrained) {
            self.drain();
        }
        let changes = matches!(job.stage, Stage::Applied { .. });
        let mut own = changes.then_some(id);
        if self.rules.breaks_rule(Mutant::GrantDuringChange) {
            let other = |(_, job): &(&u64, &Job)| !matches!(job.stage, Stage::Read { .. });
            own = own.or(self.server.jobs.iter().find(other).map(|(id, _)| *id));
        }
        let wishes: Vec<_> = values.iter().map(|(object, _)| object.touch()).collect();
        let given = self.server.grantor.grant(self.now, job.session, reading, own, &wishes);
        let mut granted = Vec::new();
        for (((object, version), (ino, _)), leases) in values.iter().zip(&wishes).zip(given) {
            if leases.is_empty() {
                continue;
            }
            granted.push((*ino, leases));
            let current = self.tree.version(*object);
            if *version != current {
                self.fail(format!("{object:?}: {version} was leased when it was {current}"));
            }
        }
        if !granted.is_empty() {
            self.server.granted_to.insert(job.client as u64);
        }
        if changes {
            self.step(Event::Done(id));
        }
        self.server.jobs.remove(&id);
        let Job { session, client, thread, seq, .. } = *job;
        self.server.answers.insert(thread, (seq, values.clone(), granted.clone()));
        let sessions = &self.server.sessions;
        if let Some(Served { link, .. }) = sessions.get(&session) {
            let link = *link;
            self.send(client, link, Message::Reply { seq, thread, values, granted });
        } else if let Some(link) =
            sessions.values().filter(|s| s.client == client).map(|s| s.link).max()
        {
            // The session ended meanwhile, and the same was asked in the next one: that waits for this.
            self.send(client, link, Message::Reply { seq, thread, values, granted: vec![] });
        }
    }

    /// The server ends a session: what waits for it is given up, what is being done is done.
    fn end_session(&mut self, session: SessionId) {
        let Some(Served { client, link, .. }) = self.server.sessions.remove(&session) else {
            return;
        };
        let waits =
            |job: &Job| job.session == session && matches!(job.stage, Stage::Announced { .. });
        let given_up: Vec<_> =
            self.server.jobs.iter().filter(|(_, job)| waits(job)).map(|(id, _)| *id).collect();
        for id in given_up {
            self.server.jobs.remove(&id);
            self.step(Event::Done(id));
        }
        self.send(client, link, Message::Closed);
        self.step(Event::Cut(session));
    }

    /// Sessions outlive their leases here, so that what a client does after its term is seen.
    pub(crate) fn sweep(&mut self) {
        let silent =
            self.server.sessions.iter().filter(|(_, served)| self.now >= served.heard + 2 * TERM);
        for session in silent.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.end_session(session);
        }
        self.step(Event::Tick);
    }

    pub(crate) fn kill(&mut self) {
        let Server { terms, ref granted_to, last_session, last_job, .. } = self.server;
        let grace =
            Grace { awaited: granted_to.iter().copied().collect(), until: self.now + terms.term };
        let needed = !granted_to.is_empty() && !self.rules.breaks_rule(Mutant::NoGrace);
        let granted_to = granted_to.clone();
        self.server = Server {
            granted_to,
            last_session,
            last_job,
            ..Server::new(terms, needed.then_some(grace))
        };
        self.net.keep(|packet| !packet.message.is_for_server());
        self.tree.lose_queue();
        for client in 0..self.clients.len() {
            let link = self.clients[client].link;
            self.send(client, link, Message::Closed);
        }
    }
}
