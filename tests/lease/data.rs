//! Data leases: one page of one file that clients load and store without a message, and that others read and
//! write through the server, in random orders; every message may overtake every other.
//!
//! The truth is what one machine would show: the last store or write. What a program loads must be it, and
//! what is written back must not undo a later one. And everything comes to an end.

use std::collections::BTreeMap;
use std::time::Duration;

use mfs::lease::{Action, ChangeId, Event, Grantor, Reading, RecallId, Terms};
use mfs::types::{InodeNo, Leases, SessionId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const FILE: InodeNo = InodeNo::FIRST;
const CLIENTS: usize = 3;
const OPERATIONS: usize = 12;
const SEEDS: u64 = 400;
/// So often in a row nothing can be done only if there is nothing to do.
const IDLE: usize = 200;

/// A rule that the clients, or the server, do not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// What was answered as under a lease that was returned since is used.
    UnprotectedUsed,
    /// A lease is returned before the page is dropped.
    ReturnedEarly,
    /// An open for writing leaves what is kept for reading.
    OpenKeepsReading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Kept,
    ToDrop,
    Dropped,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Fill,
    WriteBack,
    Write,
    Look,
    Open,
}

#[derive(Debug)]
struct Client {
    left: usize,
    writes: bool,
    /// The page, and whether it was changed.
    page: Option<(u64, bool)>,
    held: Leases,
    phase: Phase,
    recalls: Vec<(RecallId, Leases)>,
    /// The page is locked until this is answered.
    page_asked: Option<Asked>,
    /// A call of a program that locks nothing.
    call_asked: Option<Asked>,
}

#[derive(Debug)]
enum ToServer {
    Ask(usize, Asked, u64),
    Return(usize, RecallId, Leases),
}

#[derive(Debug)]
enum ToClient {
    Answer(usize, Asked, u64, Leases),
    Recall(usize, RecallId, Leases),
}

#[derive(Debug)]
struct Job {
    client: usize,
    asked: Asked,
    value: u64,
    admitted: bool,
    extended: bool,
}

struct World {
    random: SmallRng,
    mutant: Option<Mutant>,
    now: Duration,
    grantor: Grantor,
    jobs: BTreeMap<ChangeId, Job>,
    last_job: ChangeId,
    /// How many opens for writing each client has at the server, or is about to have.
    writers: [bool; CLIENTS],
    value: u64,
    truth: u64,
    last_value: u64,
    clients: Vec<Client>,
    to_server: Vec<ToServer>,
    to_client: Vec<ToClient>,
    wrong: Option<String>,
}

fn session(client: usize) -> SessionId {
    SessionId::new(client as u64 + 1).expect("not 0")
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let forever = Duration::from_secs(1_000_000);
        let mut grantor =
            Grantor::new(Terms { term: forever, patience: forever, files_per_session: 8 }, None);
        for client in 0..CLIENTS {
            grantor.step(Duration::ZERO, Event::Attached(session(client)));
        }
        let client = || Client {
            left: OPERATIONS,
            writes: false,
            page: None,
            held: Leases::empty(),
            phase: Phase::Kept,
            recalls: Vec::new(),
            page_asked: None,
            call_asked: None,
        };
        Self {
            random: SmallRng::seed_from_u64(seed),
            mutant,
            now: Duration::ZERO,
            grantor,
            jobs: BTreeMap::new(),
            last_job: 0,
            writers: [false; CLIENTS],
            value: 0,
            truth: 0,
            last_value: 0,
            clients: (0..CLIENTS).map(|_| client()).collect(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            wrong: None,
        }
    }

    /// Runs to the end, or until something is wrong.
    fn run(mut self) -> Result<usize, String> {
        let mut idle = 0;
        for steps in 0..200_000 {
            if let Some(wrong) = self.wrong {
                return Err(wrong);
            }
            // What a program wants to do may not be possible at the moment: it chooses again.
            idle = if self.step() { 0 } else { idle + 1 };
            if idle == IDLE {
                let ended = self.clients.iter().all(|client| client.left == 0);
                let ended = ended && self.jobs.is_empty() && self.to_client.is_empty();
                return if ended {
                    Ok(steps)
                } else {
                    Err(format!("stuck: {:?} {:?} {:?}", self.clients, self.jobs, self.grantor))
                };
            }
        }
        Err("it does not come to an end".to_owned())
    }

    /// One of the things that can happen; `false` if there is none.
    fn step(&mut self) -> bool {
        self.now += Duration::from_millis(1);
        let begin = self.random.random_range(0..4_usize);
        (0..4).any(|at| match (begin + at) % 4 {
            0 => self.deliver_to_server(),
            1 => self.deliver_to_client(),
            2 => self.execute(),
            _ => {
                let first = self.random.random_range(0..CLIENTS);
                (0..CLIENTS).any(|at| self.act((first + at) % CLIENTS))
            }
        })
    }

    fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    // --- clients ---

    /// A client's kernel lets the page go, or a program of it does something.
    fn act(&mut self, at: usize) -> bool {
        let drops_first = self.random.random_bool(0.5);
        (drops_first && self.drop_page(at)) || self.program(at) || self.drop_page(at)
    }

    fn drop_page(&mut self, at: usize) -> bool {
        let early = self.mutant == Some(Mutant::ReturnedEarly);
        let client = &mut self.clients[at];
        if client.phase == Phase::Dropped {
            return self.give_back(at);
        }
        if client.phase == Phase::Kept {
            return false;
        }
        if early && client.phase == Phase::ToDrop {
            client.phase = Phase::Dropped;
            return true;
        }
        if client.page_asked.is_some() {
            return false; // locked
        }
        if let Some((value, true)) = client.page {
            client.page_asked = Some(Asked::WriteBack);
            self.to_server.push(ToServer::Ask(at, Asked::WriteBack, value));
            return true;
        }
        client.page = None;
        client.phase = Phase::Dropped;
        true
    }

    fn give_back(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        for (recall, leases) in std::mem::take(&mut client.recalls) {
            client.held -= leases;
            self.to_server.push(ToServer::Return(at, recall, leases));
        }
        client.phase = Phase::Kept;
        true
    }

    fn program(&mut self, at: usize) -> bool {
        let truth = self.truth;
        let choice = self.random.random_range(0..8_u32);
        let client = &mut self.clients[at];
        if client.left == 0 || client.call_asked.is_some() {
            return false;
        }
        match (choice, client.page) {
            // Through the mapping.
            (0..5, Some((value, dirty))) if client.page_asked.is_none() => {
                if value != truth {
                    self.fail(format!("client {at} loads {value}, and it is {truth}"));
                    return true;
                }
                client.left -= 1;
                if client.writes && choice > 1 {
                    self.last_value += 1;
                    self.truth = self.last_value;
                    self.clients[at].page = Some((self.truth, true));
                } else {
                    client.page = Some((value, dirty));
                }
                true
            }
            (0..5, None) if client.page_asked.is_none() && client.phase != Phase::Dropped => {
                client.page_asked = Some(Asked::Fill);
                self.to_server.push(ToServer::Ask(at, Asked::Fill, 0));
                true
            }
            (5, None) if client.page_asked.is_none() => self.call(at, Asked::Look),
            (6, None) if client.writes && client.page_asked.is_none() => {
                self.call(at, Asked::Write)
            }
            (7, _) if !client.writes => self.call(at, Asked::Open),
            _ => false,
        }
    }

    fn call(&mut self, at: usize, asked: Asked) -> bool {
        self.clients[at].left -= 1;
        self.clients[at].call_asked = Some(asked);
        self.to_server.push(ToServer::Ask(at, asked, self.truth));
        true
    }

    fn deliver_to_client(&mut self) -> bool {
        if self.to_client.is_empty() {
            return false;
        }
        let next = self.random.random_range(0..self.to_client.len());
        match self.to_client.swap_remove(next) {
            ToClient::Recall(at, recall, leases) => {
                let client = &mut self.clients[at];
                client.recalls.push((recall, leases));
                if client.phase == Phase::Kept {
                    client.phase = Phase::ToDrop;
                }
            }
            ToClient::Answer(at, asked @ (Asked::Fill | Asked::WriteBack), value, leases) => {
                self.page_answered(at, asked, value, leases);
            }
            ToClient::Answer(at, asked, ..) => {
                let client = &mut self.clients[at];
                client.call_asked = None;
                client.writes |= asked == Asked::Open;
            }
        }
        true
    }

    fn page_answered(&mut self, at: usize, asked: Asked, value: u64, leases: Leases) {
        let client = &mut self.clients[at];
        client.page_asked = None;
        if asked == Asked::WriteBack {
            client.page = Some((value, false));
            return;
        }
        let counts = client.phase == Phase::Kept;
        if counts {
            client.held |= leases & Leases::DATA;
        }
        let unprotected = counts && client.held.is_empty();
        if unprotected && leases.is_empty() && self.mutant != Some(Mutant::UnprotectedUsed) {
            client.page_asked = Some(Asked::Fill);
            self.to_server.push(ToServer::Ask(at, Asked::Fill, 0));
            return;
        }
        client.page = Some((value, false));
    }

    // --- the server ---

    fn deliver_to_server(&mut self) -> bool {
        if self.to_server.is_empty() {
            return false;
        }
        let next = self.random.random_range(0..self.to_server.len());
        match self.to_server.swap_remove(next) {
            ToServer::Return(client, recall, leases) => {
                self.tell(Event::Returned(session(client), recall, vec![(FILE, leases)]));
            }
            ToServer::Ask(client, asked, value) => {
                self.last_job += 1;
                let id = self.last_job;
                let job = Job { client, asked, value, admitted: false, extended: false };
                self.jobs.insert(id, job);
                let session = session(client);
                let change = |touches| Event::Change { id, session: Some(session), touches };
                let writes = self.writers[client];
                let event = match asked {
                    Asked::Fill => Event::Fill { id, session, ino: FILE, writes },
                    Asked::Look => change(vec![(FILE, Leases::DATA_WRITE)]),
                    Asked::Write | Asked::WriteBack => change(vec![(FILE, Leases::DATA)]),
                    Asked::Open => change(vec![]),
                };
                self.writers[client] |= asked == Asked::Open;
                self.tell(event);
            }
        }
        true
    }

    /// One of the admitted jobs is done.
    fn execute(&mut self) -> bool {
        let admitted: Vec<_> =
            self.jobs.iter().filter(|(_, job)| job.admitted).map(|(id, _)| *id).collect();
        if admitted.is_empty() {
            return false;
        }
        let id = admitted[self.random.random_range(0..admitted.len())];
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let (client, asked, value) = (job.client, job.asked, job.value);
        if asked == Asked::Open
            && !std::mem::replace(&mut job.extended, true)
            && self.mutant != Some(Mutant::OpenKeepsReading)
        {
            job.admitted = false;
            self.tell(Event::Extend { id, touches: vec![(FILE, Leases::DATA_READ)] });
            return true;
        }
        let reading: Reading = self.grantor.begin_reading();
        match asked {
            Asked::WriteBack => {
                if value != self.truth {
                    self.fail(format!(
                        "client {client} writes back {value}, and it is {}",
                        self.truth
                    ));
                }
                self.value = value;
            }
            Asked::Write => {
                self.last_value += 1;
                (self.value, self.truth) = (self.last_value, self.last_value);
            }
            // It was asked when that was the truth; later values are larger.
            Asked::Look if self.value < value => {
                self.fail(format!("client {client} reads {}, and it was {value}", self.value));
            }
            Asked::Look | Asked::Fill | Asked::Open => {}
        }
        let leases = if asked == Asked::Fill {
            let writes = self.writers[client];
            self.grantor.grant_data(self.now, session(client), reading, id, FILE, writes)
        } else {
            self.grantor.end_reading(reading);
            Leases::empty()
        };
        self.jobs.remove(&id);
        self.tell(Event::Done(id));
        let value = if asked == Asked::WriteBack { value } else { self.value };
        self.to_client.push(ToClient::Answer(client, asked, value, leases));
        true
    }

    fn tell(&mut self, event: Event) {
        for action in self.grantor.step(self.now, event) {
            match action {
                Action::Recall(whom, recall, touches) => {
                    let client = usize::try_from(whom.get() - 1).expect("a client");
                    let leases = touches.iter().fold(Leases::empty(), |all, (_, l)| all | *l);
                    self.to_client.push(ToClient::Recall(client, recall, leases));
                }
                Action::Admit(id) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.admitted = true;
                    }
                }
                Action::Cut(whom) => self.fail(format!("{whom} is cut")),
            }
        }
    }
}

#[test]
fn loads_see_the_last_store_and_nothing_is_undone() {
    let mut steps = 0;
    for seed in 0..SEEDS {
        match World::new(seed, None).run() {
            Ok(more) => steps += more,
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    println!("{SEEDS} seeds, {steps} steps");
    assert!(steps > 10_000, "too little happened");
}

#[test]
fn broken_rules_show() {
    for mutant in [Mutant::UnprotectedUsed, Mutant::ReturnedEarly, Mutant::OpenKeepsReading] {
        let found = (0..SEEDS).find_map(|seed| World::new(seed, Some(mutant)).run().err());
        assert!(found.is_some(), "nobody sees that a rule is broken: {mutant:?}");
    }
}
