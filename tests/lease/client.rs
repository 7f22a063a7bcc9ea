//! `Client`: a mount with its memory, and the threads of programs on it.

use std::collections::BTreeMap;
use std::time::Duration;

use mfs::lease::{Holder, OwnChange, Stamp, Touch};
use mfs::types::{Leases, SessionId};

use crate::mutants::Mutant;
use crate::tree::{Object, Told, Values};
use crate::world::{Message, Step, TERM, World};

#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Client {
    holder: Holder,
    memory: BTreeMap<Object, u32>,
    session: Option<SessionId>,
    /// Its streams, counted.
    pub(crate) link: u32,
    linked: Linked,
    seq: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Linked {
    #[default]
    Down,
    Greeting,
    Up,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct Thread {
    client: usize,
    place: usize,
    pending: Option<Pending>,
}

/// A request that is not answered.
#[derive(Debug, Clone, Hash)]
struct Pending {
    step: Step,
    seq: u64,
    /// What everybody had been told when it began.
    told: Told,
    stamp: Stamp,
    sent: Duration,
    own: Option<OwnChange>,
}

// === impl Client ===

impl Client {
    pub(crate) fn is_linked(&self) -> bool {
        self.linked != Linked::Down
    }

    /// Whether it neither holds nor remembers anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && !self.holder.is_holding()
    }

    fn forget(&mut self, (ino, leases): Touch) {
        for object in Object::covered_by((ino, leases)) {
            self.memory.remove(&object);
        }
    }
}

// === impl Thread ===

impl Thread {
    pub(crate) fn of(client: usize) -> Self {
        Self { client, place: 0, pending: None }
    }

    pub(crate) fn is_done(&self, steps: usize) -> bool {
        self.pending.is_none() && self.place == steps
    }
}

// === impl Step ===

impl Step {
    /// What the client knows that it changes.
    pub(crate) fn touches(self) -> Vec<Touch> {
        match self {
            Self::Read(_) | Self::Lookup(_) | Self::Evict(_) => vec![],
            Self::Change(file) => vec![Object::File(file).touch()],
            Self::Create(at) | Self::Unlink(at) => {
                vec![(Object::Names(at).ino(), Leases::DIRECTORY | Leases::ATTRIBUTES)]
            }
        }
    }
}

// === impl World ===

impl World {
    /// A client's clock is slower than the server's.
    fn time_of_client(&self) -> Duration {
        self.now * 23 / 25
    }

    pub(crate) fn may_start(&self, thread: usize) -> bool {
        let Thread { client, place, pending } = &self.threads[thread];
        pending.is_none()
            && *place < self.rules.threads[thread].1.len()
            && self.clients[*client].linked == Linked::Up
    }

    pub(crate) fn start(&mut self, thread: usize) {
        let at = self.threads[thread].client;
        let step = self.rules.threads[thread].1[self.threads[thread].place];
        let (now, told) = (self.time_of_client(), self.tree.told());
        let client = &mut self.clients[at];
        let usable = |object: Object| {
            let held = client.holder.holds(now, object.ino(), object.lease());
            let lapse = self.rules.breaks_rule(Mutant::LapseIgnored);
            held || lapse && client.holder.is_valid(now)
        };
        match step {
            Step::Read(object) if client.memory.contains_key(&object) && usable(object) => {
                let values = vec![(object, client.memory[&object])];
                self.threads[thread].place += 1;
                self.complete(&told, &values);
            }
            Step::Evict(object) => {
                self.threads[thread].place += 1;
                self.evict(at, object);
            }
            _ => {
                let touches = step.touches();
                let mut own = (!touches.is_empty()).then(|| client.holder.begin_change(&touches));
                if self.rules.breaks_rule(Mutant::OwnChangeUsed)
                    && let Some(own) = own.replace(client.holder.begin_change(&[]))
                {
                    client.holder.end_change(now, own, Leases::empty(), &[]);
                    touches.iter().for_each(|touch| client.forget(*touch));
                }
                client.seq += 1;
                let (seq, stamp) = (client.seq, client.holder.stamp());
                let pending = Pending { step, seq, told, stamp, sent: now, own };
                self.threads[thread].pending = Some(pending);
                self.send_request(thread);
            }
        }
    }

    fn send_request(&mut self, thread: usize) {
        let at = self.threads[thread].client;
        let Client { session: Some(session), link, .. } = self.clients[at] else { return };
        if let Some(Pending { step, seq, .. }) = self.threads[thread].pending {
            self.send(at, link, Message::Request { session, seq, thread, step });
        }
    }

    fn evict(&mut self, at: usize, object: Object) {
        let client = &mut self.clients[at];
        client.holder.release(object.ino(), object.lease());
        client.memory.remove(&object);
        self.give_back(at, 0, vec![object.touch()]);
    }

    fn give_back(&mut self, at: usize, recall: u64, touches: Vec<Touch>) {
        if let Client { session: Some(session), link, linked: Linked::Up, .. } = self.clients[at] {
            self.send(at, link, Message::Return(session, recall, touches));
        }
    }

    pub(crate) fn return_all(&mut self, at: usize) {
        for object in self.clients[at].memory.keys().copied().collect::<Vec<_>>() {
            self.evict(at, object);
        }
    }

    pub(crate) fn renew(&mut self, at: usize) {
        let now = self.time_of_client();
        let Client { session, link, holder, linked, .. } = &self.clients[at];
        if self.rules.diligent
            && *linked == Linked::Up
            && holder.is_holding()
            && let Some(session) = *session
        {
            let link = *link;
            self.send(at, link, Message::Renew(session, now));
        }
    }

    pub(crate) fn connect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.link += 1;
        client.linked = Linked::Greeting;
        let (link, session) = (client.link, client.session);
        self.send(at, link, Message::Hello(session));
    }

    pub(crate) fn disconnect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.linked = Linked::Down;
        client.holder.forget();
        client.memory.clear();
        self.net.keep(|packet| packet.client != at || packet.message.is_for_server());
    }

    /// A message of the client's newest stream.
    pub(crate) fn hear(&mut self, at: usize, message: Message) {
        let now = self.time_of_client();
        match message {
            Message::Closed => self.disconnect(at),
            Message::Welcome { session, resumed } => self.welcome(at, session, resumed),
            Message::Recall(session, recall, touches) => {
                let client = &mut self.clients[at];
                if client.session == Some(session) {
                    for (ino, leases) in touches.iter().copied() {
                        client.holder.recall(ino, leases);
                        client.forget((ino, leases));
                    }
                    self.give_back(at, recall, touches);
                }
            }
            Message::Renewed(sent) => self.extend(at, sent),
            Message::Reply { seq, thread, values, granted } => {
                let is_awaited = |pending: &mut Pending| pending.seq == seq;
                if let Some(pending) = self.threads[thread].pending.take_if(is_awaited) {
                    let late = self.rules.breaks_rule(Mutant::TermFromAnswer);
                    self.extend(at, if late { now } else { pending.sent });
                    self.threads[thread].place += 1;
                    self.remember(at, &pending, &values, &granted);
                    self.complete(&pending.told, &values);
                }
            }
            _ => self.fail(format!("not for a client: {message:?}")),
        }
    }

    fn welcome(&mut self, at: usize, session: SessionId, resumed: bool) {
        let now = self.time_of_client();
        let client = &mut self.clients[at];
        if client.linked != Linked::Greeting {
            return;
        }
        client.holder.begin(TERM);
        client.memory.clear();
        (client.linked, client.session) = (Linked::Up, Some(session));
        for thread in 0..self.threads.len() {
            let Thread { client: of, place, pending } = &mut self.threads[thread];
            if *of != at {
                continue;
            }
            // Whether a change of an old session was made, nobody knows.
            let lost = |pending: &mut Pending| pending.own.is_some() && !resumed;
            if let Some(Pending { own: Some(own), .. }) = pending.take_if(lost) {
                *place += 1;
                self.clients[at].holder.end_change(now, own, Leases::empty(), &[]);
            }
            if let Some(pending) = pending
                && self.rules.breaks_rule(Mutant::RepeatGrants)
            {
                pending.stamp = self.clients[at].holder.stamp();
            }
            self.send_request(thread);
        }
    }

    fn extend(&mut self, at: usize, sent: Duration) {
        let now = self.time_of_client();
        let client = &mut self.clients[at];
        if client.holder.extend(now, sent) && !self.rules.breaks_rule(Mutant::LapseIgnored) {
            client.memory.clear();
        }
    }

    fn remember(&mut self, at: usize, pending: &Pending, values: &Values, granted: &[Touch]) {
        let now = self.time_of_client();
        let client = &mut self.clients[at];
        let stamp = if self.rules.breaks_rule(Mutant::StampIgnored) {
            client.holder.stamp()
        } else {
            pending.stamp
        };
        if self.rules.breaks_rule(Mutant::OwnChangeUsed) {
            for (ino, leases) in pending.step.touches() {
                client.holder.recall(ino, leases);
            }
        }
        let mut corrected = Vec::new();
        let remembered = match pending.own.clone() {
            None => granted
                .iter()
                .map(|(ino, leases)| client.holder.grant(now, stamp, *ino, *leases))
                .collect(),
            Some(own) => {
                let ended = client.holder.end_change(now, own, Leases::DIRECTORY, granted);
                // What it knows by itself: the names as they were, and its own change.
                for object in ended.kept.iter().copied().flat_map(Object::covered_by) {
                    let before = client.memory.get(&object).copied();
                    corrected.extend(before.map(|before| (object, before + 1)));
                }
                pending.step.touches().iter().for_each(|touch| client.forget(*touch));
                ended.granted
            }
        };
        let mut refused = Vec::new();
        for ((ino, wished), leases) in granted.iter().zip(remembered) {
            for object in Object::covered_by((*ino, leases)) {
                let value = values.iter().find(|(of, _)| *of == object);
                client.memory.extend(value.copied());
            }
            refused.extend((*wished != leases).then_some((*ino, *wished - leases)));
        }
        client.memory.extend(corrected);
        if self.rules.diligent && !refused.is_empty() {
            self.give_back(at, 0, refused);
        }
    }

    /// A read or a change is answered to its program.
    fn complete(&mut self, told: &Told, values: &Values) {
        for (object, version) in values {
            let least = told.get(object).copied().unwrap_or(0);
            if *version < least {
                self.fail(format!("{object:?}: version {version} was read after {least} was told"));
            }
        }
        self.tree.tell(values);
    }
}
