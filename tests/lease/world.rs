//! `World`: one server, clients with threads, and messages that arrive in any order.
//!
//! Whatever can happen next is a `Move`, so that a test may try all of them or draw one. A message may be
//! late for any time; one that a client sent may be worked on by the server although its stream is gone.

use std::rc::Rc;
use std::time::Duration;

use mfs::lease::{Event, RecallId, Terms, Touch};
use mfs::types::SessionId;

use crate::bag::Bag;
use crate::client::{Client, Thread};
use crate::mutants::Mutant;
use crate::server::Server;
use crate::tree::{Object, Tree, Values};

/// How long leases last.
pub(crate) const TERM: Duration = Duration::from_secs(10);

/// How far time goes at once.
const HOP: Duration = Duration::from_secs(5);

/// What a world is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// What the threads do, and on which client.
    pub(crate) threads: Vec<(usize, Vec<Step>)>,
    /// Directories, and the file that the one name in each means.
    pub(crate) directories: Vec<(u64, Option<u64>)>,
    /// How often time passes.
    pub(crate) hops: u32,
    /// Clients whose stream breaks, in this order.
    pub(crate) breaks: Vec<usize>,
    /// How often the server is killed.
    pub(crate) kills: u32,
    /// What local processes change.
    pub(crate) locals: Vec<Object>,
    /// Whether clients that hold something renew it when time passes, and return what they refuse.
    pub(crate) diligent: bool,
    /// The rule that is broken.
    pub(crate) mutant: Option<Mutant>,
}

/// What a thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// Reads one object.
    Read(Object),
    /// Finds the one name in a directory: its names, and the attributes of the file.
    Lookup(u64),
    /// Changes the attributes of a file.
    Change(u64),
    /// Creates a file in a directory, or replaces the one that is there.
    Create(u64),
    /// Removes the name in a directory.
    Unlink(u64),
    /// Evicts what is remembered of an object.
    Evict(Object),
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// A message arrives.
    Deliver(usize),
    /// A message of a stream that is gone does not arrive.
    Lose(usize),
    /// A thread does its next step.
    Start(usize),
    /// A request goes on at the server.
    Advance(u64),
    /// A local process makes its next change.
    Local,
    /// The server takes note of what local processes did.
    Watch,
    /// Time passes.
    Hop,
    /// The server looks at the clock.
    Sweep,
    /// A client's stream breaks.
    Break(usize),
    /// A client greets.
    Connect(usize),
    /// The server is killed, and starts again.
    Kill,
}

/// A message under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Packet {
    pub(crate) client: usize,
    /// The client's stream, counted.
    pub(crate) link: u32,
    pub(crate) message: Message,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    Hello(Option<SessionId>),
    Request { session: SessionId, seq: u64, thread: usize, step: Step },
    Renew(SessionId, Duration),
    Return(SessionId, RecallId, Vec<Touch>),
    Welcome { session: SessionId, resumed: bool },
    Reply { seq: u64, thread: usize, values: Values, granted: Vec<Touch> },
    Renewed(Duration),
    Recall(SessionId, RecallId, Vec<Touch>),
    Closed,
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) now: Duration,
    pub(crate) tree: Tree,
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) net: Bag<Packet>,
    swept: Duration,
    hops: u32,
    breaks: usize,
    kills: u32,
    locals: usize,
    /// What went wrong.
    pub(crate) wrong: Option<String>,
}

/// What does not change while the world goes on.
#[derive(Debug, Clone)]
pub(crate) struct Rules(Rc<Setup>);

// === impl Rules ===

impl std::hash::Hash for Rules {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl std::ops::Deref for Rules {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.0
    }
}

impl Rules {
    pub(crate) fn breaks_rule(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

// === impl Message ===

impl Message {
    pub(crate) fn is_for_server(&self) -> bool {
        matches!(self, Self::Hello(_) | Self::Request { .. } | Self::Renew(..) | Self::Return(..))
    }
}

// === impl World ===

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let clients = setup.threads.iter().map(|(client, _)| client + 1).max().unwrap_or(0);
        let terms =
            Terms { term: TERM, patience: Duration::from_secs(5), files_per_session: 1_000 };
        let mut world = Self {
            now: Duration::from_secs(1_000),
            tree: Tree::new(&setup.directories),
            server: Server::new(terms, None),
            clients: vec![Client::default(); clients],
            threads: setup.threads.iter().map(|(client, _)| Thread::of(*client)).collect(),
            net: Bag::default(),
            swept: Duration::from_secs(1_000),
            hops: setup.hops,
            breaks: 0,
            kills: setup.kills,
            locals: 0,
            wrong: None,
            rules: Rules(Rc::new(setup)),
        };
        for client in 0..clients {
            world.connect(client);
        }
        // The greetings themselves are not what is looked at.
        while world.net.iter().next().is_some() {
            world.apply(Move::Deliver(0));
        }
        world
    }

    /// What can happen now.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = self.progress();
        for (at, packet) in self.net.iter().enumerate() {
            if packet.message.is_for_server() && packet.link != self.clients[packet.client].link {
                moves.push(Move::Lose(at));
            }
        }
        if self.locals < self.rules.locals.len() {
            moves.push(Move::Local);
        }
        if self.hops > 0 {
            moves.push(Move::Hop);
        }
        let next = self.rules.breaks.get(self.breaks).copied();
        moves.extend(next.filter(|next| self.clients[*next].is_linked()).map(Move::Break));
        if self.kills > 0 {
            moves.push(Move::Kill);
        }
        moves
    }

    /// What happens by itself, if nothing else does.
    pub(crate) fn progress(&self) -> Vec<Move> {
        let mut moves: Vec<_> = (0..self.net.iter().count()).map(Move::Deliver).collect();
        let ready = (0..self.threads.len()).filter(|thread| self.may_start(*thread));
        moves.extend(ready.map(Move::Start));
        moves.extend(self.server.advanceable(&self.rules).map(Move::Advance));
        if !self.tree.queue.is_empty() {
            moves.push(Move::Watch);
        }
        if self.swept != self.now {
            moves.push(Move::Sweep);
        }
        let down = (0..self.clients.len()).filter(|client| !self.clients[*client].is_linked());
        moves.extend(down.map(Move::Connect));
        moves
    }

    pub(crate) fn apply(&mut self, what: Move) {
        match what {
            Move::Deliver(at) => {
                let packet = self.net.take(at);
                if packet.message.is_for_server() {
                    self.receive(packet);
                } else if packet.link == self.clients[packet.client].link {
                    self.hear(packet.client, packet.message);
                }
            }
            Move::Lose(at) => drop(self.net.take(at)),
            Move::Start(thread) => self.start(thread),
            Move::Advance(job) => self.advance(job),
            Move::Local => {
                let object = self.rules.locals[self.locals];
                self.locals += 1;
                self.tree.change_locally(object);
            }
            Move::Watch => self.drain(),
            Move::Hop => {
                self.hops = self.hops.saturating_sub(1);
                self.now += HOP;
                for client in 0..self.clients.len() {
                    self.renew(client);
                }
            }
            Move::Sweep => {
                self.swept = self.now;
                self.sweep();
            }
            Move::Break(client) => {
                self.breaks += 1;
                self.disconnect(client);
            }
            Move::Connect(client) => self.connect(client),
            Move::Kill => {
                self.kills -= 1;
                self.kill();
            }
        }
        let grantor = &self.server.grantor;
        self.tree.settle(|object| {
            let holders = grantor.holders_of(object.ino());
            holders
                .iter()
                .any(|held| held.leases.intersects(object.lease()) && held.asked.is_some())
        });
    }

    /// A message under way.
    pub(crate) fn packet(&self, at: usize) -> Option<&Packet> {
        self.net.iter().nth(at)
    }

    /// Whether all threads are done.
    pub(crate) fn is_done(&self) -> bool {
        self.unfinished().is_none()
    }

    /// What a move does, for people.
    pub(crate) fn describe(&self, what: Move) -> String {
        let packet = |at: usize| {
            let Packet { client, message, .. } = self.net.iter().nth(at).expect("it is possible");
            let way = if message.is_for_server() { "from" } else { "to" };
            format!("{way} client {client}: {message:?}")
        };
        match what {
            Move::Deliver(at) => packet(at),
            Move::Lose(at) => format!("lost {}", packet(at)),
            Move::Start(thread) => format!("thread {thread} of {:?}", self.rules.threads[thread]),
            Move::Advance(job) => self.server.describe(job),
            other => format!("{other:?}"),
        }
    }

    /// The server takes note of all that local processes did.
    pub(crate) fn drain(&mut self) {
        let touches: Vec<_> = self.tree.queue.drain(..).map(Object::touch).collect();
        if !touches.is_empty() {
            self.step(Event::Noticed(touches));
        }
    }

    pub(crate) fn send(&mut self, client: usize, link: u32, message: Message) {
        self.net.put(Packet { client, link, message });
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Lets everything come to its end without further trouble, and checks that it does: all threads are
    /// done, and when all leases were returned, nothing is remembered of them.
    pub(crate) fn come_to_rest(mut self) -> Result<(), String> {
        self.run_out();
        let Setup { hops, kills, breaks, .. } = &*self.rules;
        let calm = hops + kills == 0 && breaks.is_empty();
        for _ in 0..if calm { 0 } else { 8 } {
            if self.unfinished().is_none() {
                break;
            }
            self.apply(Move::Hop);
            self.run_out();
        }
        if let Some(thread) = self.unfinished() {
            let thread = &self.threads[thread];
            self.fail(format!("a thread waits for ever: {thread:?}\n{:?}", self.server));
        }
        for client in 0..self.clients.len() {
            self.return_all(client);
        }
        self.run_out();
        if let Some(client) = self.clients.iter().find(|client| !client.is_empty()) {
            let what = format!("a client cannot return all that it holds: {client:?}");
            self.fail(what);
        }
        // What a client was granted and did not take ends with its term.
        for _ in 0..3 {
            self.apply(Move::Hop);
            self.run_out();
        }
        if !self.server.grantor.is_idle() {
            let what = format!("the grantor leaks: {:?}", self.server.grantor);
            self.fail(what);
        }
        self.wrong.map_or(Ok(()), Err)
    }

    fn run_out(&mut self) {
        for _ in 0..100_000 {
            let Some(next) = self.progress().first().copied() else { return };
            self.apply(next);
        }
        self.fail("it never comes to rest".to_owned());
    }

    fn unfinished(&self) -> Option<usize> {
        (0..self.threads.len())
            .find(|at| !self.threads[*at].is_done(self.rules.threads[*at].1.len()))
    }
}
