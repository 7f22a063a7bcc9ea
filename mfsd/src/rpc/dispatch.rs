//! From a request that was read to its answer: sessions' rules before, execution on a thread that may
//! block, locks and open files after. What was begun is finished, whatever becomes of its stream.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use mfs::clock;
use mfs::failpoint::{self, Point};
use mfs::sync::Mutex;
use mfs::telemetry::metrics as m;
use mfs::types::op::{Create, LockKind, Open, Operation, Outcome, SetLock};
use mfs::types::{
    Caller, Epoch, Errno, InodeNo, Leases, NodeId, OpenId, RequestId, Slot, Verifier,
};
use mfs::wire::{Failure, ProtocolCode, Refusal, Request};

use super::coherence::{Asked, Asker, ChangeHold, Coherence};
use super::effects::{Effects, Keeping};
use super::leasing::WriteIntent;
use super::ledger;
use super::limits::Limits;
use super::lock_waiters::{LockWaiters, Waiter};
use super::neighbours::Neighbours;
use super::once::{Answered, Named, Once};
use super::open_table::Opening;
use super::opens_of::OpensOf;
use super::parked::ParkedLocks;
use super::reply_cache::Begun;
use super::run::{Answer, Responder, panic_text};
use super::session::{Ended, Session};
use super::settling::Settling;
use super::sink::{Executed, Recipient, Sink};
use super::tree::{Opens, Tree};

/// Says what a node is called.
pub(super) type NamesOf = Box<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// Executes the requests of all sessions.
pub(super) struct Dispatch<T: Tree> {
    pub(super) tree: T,
    pub(super) epoch: Epoch,
    pub(super) verifier: Verifier,
    /// Who may have changed pages of before a restart.
    pub(super) settling: Settling,
    pub(super) limits: Limits,
    pub(super) coherence: Arc<Coherence>,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) locks: LockWaiters,
    pub(super) parked: Mutex<ParkedLocks<T::SharedLock>>,
    pub(super) once: Once,
    /// Held while a conflict copy is written.
    pub(super) parting: Mutex<()>,
    pub(super) names: OnceLock<NamesOf>,
    /// All locks are going to be tried: asking once more changes nothing.
    pub(super) sweeping: AtomicBool,
}

/// One request on its way.
struct Job<T: Tree> {
    dispatch: Arc<Dispatch<T>>,
    session: Arc<Session<T>>,
    caller: Caller,
    operation: Operation,
    /// Under which name it is noted, if it may be executed only once.
    named: Option<Named>,
    /// When the client stops waiting.
    until: Option<Instant>,
    sink: Sink,
    /// Set if the client gives the request up while it waits.
    given_up: Option<(RequestId, Arc<AtomicBool>)>,
    /// What it changes, announced and admitted, until it is executed.
    change: Option<ChangeHold>,
    /// The files that it changes by their names have been announced, too.
    extended: bool,
    /// The file whose data it reads to keep it.
    fill: Option<InodeNo>,
    /// It opens a file for writing.
    intent: Option<WriteIntent<T>>,
}

// === impl Dispatch ===

impl<T: Tree> Dispatch<T> {
    /// Begins a request. Does not wait; the answer goes to `responder` when there is one.
    pub(super) fn begin(
        self: &Arc<Self>,
        session: &Arc<Session<T>>,
        trust_root: bool,
        request: Request,
        responder: Responder,
    ) {
        if request.epoch != self.epoch {
            return responder.refuse(Refusal::new(
                ProtocolCode::StaleEpoch,
                format!(
                    "epoch {} is over, this node's is {}: greet again, then reclaim opens and locks",
                    request.epoch, self.epoch
                ),
            ));
        }
        let until = request.deadline.map(|left| clock::now() + left);
        let named = Named::of(session, &request);
        let mut operation = request.operation;
        let Some(sink) = enter(session, &mut operation, request.once, responder) else { return };
        let given_up = match &operation {
            Operation::SetLock(lock @ SetLock { wait: true, .. }) => {
                let (id, pid) = (request.id, request.caller.pid);
                Some((id, session.waits.lock().begin(id, lock, pid, clock::now())))
            }
            _ => None,
        };
        let caller = self.tree.vouch(request.caller, trust_root);
        if let Operation::Open(open) = &mut operation {
            self.admit_leased(session, &caller, open);
        }
        let job = Job {
            dispatch: Arc::clone(self),
            session: Arc::clone(session),
            caller,
            operation,
            named,
            until,
            sink,
            given_up,
            change: None,
            extended: false,
            fill: None,
            intent: None,
        };
        job.announce();
    }

    /// Gives up a request of `session` that waits for a lock.
    pub(super) fn cancel(self: &Arc<Self>, session: &Session<T>, id: RequestId) {
        if session.waits.lock().give_up(id) {
            self.sweep_all();
        }
    }

    /// Tries all locks that are waited for; to be called at intervals.
    pub(super) fn sweep_all(self: &Arc<Self>) {
        if self.locks.files().is_empty() || self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let dispatch = Arc::clone(self);
        self.tree.spawn(Box::new(move || {
            // Before looking: who asks from now on has something new to be looked at.
            dispatch.sweeping.store(false, Ordering::Release);
            for ino in dispatch.locks.files() {
                dispatch.locks.sweep(ino, clock::now());
            }
        }));
    }

    /// Closes what a session owned.
    pub(super) fn close(self: &Arc<Self>, session: &Session<T>) {
        let Ended { opens, tenant } = session.end();
        self.once.intents.end(session.id, &session.owner);
        let (dispatch, owner) = (Arc::clone(self), session.owner);
        self.tree.spawn(Box::new(move || {
            let files: Vec<_> = opens.iter().filter_map(|held| held.ino).collect();
            dispatch.anchor(&owner, &opens);
            drop(opens);
            drop(tenant);
            for ino in files {
                dispatch.released(Some(ino));
            }
        }));
    }

    /// Executes, with a panic caught: it concerns this request alone, and its guards have undone what
    /// they had to while it unwound.
    pub(super) fn execute(
        &self,
        caller: &Caller,
        operation: Operation,
        opens: &OpensOf<'_, T>,
    ) -> Answer {
        let name = operation.name();
        failpoint::reach(Point::Apply, || name);
        let executed =
            catch_unwind(AssertUnwindSafe(|| self.tree.execute(caller, operation, opens)));
        failpoint::reach(Point::Applied, || name);
        match executed {
            Ok(result) => result.map_err(|errno| opens.failure(errno)),
            Err(panic) => {
                tracing::error!(
                    "{name} failed inside mfsd, which is a bug: {}. Only this request gets EIO",
                    panic_text(&*panic)
                );
                Err(Failure::File(Errno::Io))
            }
        }
    }

    /// What people call a node.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        let name = self.names.get().and_then(|names| names(node));
        name.unwrap_or_else(|| node.short())
    }

    /// A lock on `ino` may have been released: those who wait for one try again.
    fn released(&self, ino: Option<InodeNo>) {
        if let Some(ino) = ino.filter(|ino| self.locks.is_awaited(*ino)) {
            self.locks.sweep(ino, clock::now());
        }
    }
}

/// Enters a request into the tables of its session. `None` if it is answered, or joined one that runs.
fn enter<T: Tree>(
    session: &Session<T>,
    operation: &mut Operation,
    once: Option<(Slot, mfs::types::Sequence)>,
    responder: Responder,
) -> Option<Sink> {
    let mut recipient = match once {
        None => Recipient::Sender(responder),
        Some((slot, sequence)) => {
            let begun = session.replies.lock().begin(slot, sequence, operation);
            match begun {
                Err(refusal) => {
                    responder.refuse(refusal);
                    return None;
                }
                Ok(Begun::Repeated(run)) => {
                    m::SERVER_REPLIES_REMEMBERED.add_one();
                    run.join(responder);
                    return None;
                }
                Ok(Begun::Execute(run)) => {
                    run.join(responder);
                    Recipient::Slot(slot, run)
                }
            }
        }
    };
    let id = match operation {
        Operation::Open(open) => open.open,
        Operation::Create(create) => create.open,
        _ => return Some(Sink { to: recipient, opening: None }),
    };
    let permit = || Arc::clone(&session.share.opens).try_acquire_owned();
    let begun = session.opens.lock().begin(id, permit);
    let refused = match (begun, &mut *operation) {
        (Ok(Opening::New(run)), _) => {
            if let Recipient::Sender(responder) = recipient {
                run.join(responder);
                recipient = Recipient::Opening;
            }
            return Some(Sink { to: recipient, opening: Some((id, run)) });
        }
        (Ok(Opening::Running(run)), Operation::Open(_)) => {
            if let Recipient::Sender(responder) = recipient {
                run.join(responder);
            }
            return None;
        }
        (Ok(Opening::Open), Operation::Open(_)) => {
            return Some(Sink { to: recipient, opening: None });
        }
        (Ok(_), _) => Failure::Protocol(Refusal::new(
            ProtocolCode::Malformed,
            format!("open number {id} is in use: a client never uses one twice"),
        )),
        (Err(_), _) => Failure::File(Errno::NFile),
    };
    let sink = Sink { to: recipient, opening: None };
    sink.finish(session, Err(refused), Leases::empty(), Executed::No);
    None
}

// === impl Job ===

impl<T: Tree> Job<T> {
    /// Begins it, as soon as no other session remembers what it changes, and what it reads is known.
    fn announce(self) {
        let looks = self.effects().looks.map(|(_, keeping)| keeping == Keeping::Pages);
        let Some(fills) = looks else { return self.announce_settled() };
        let (dispatch, client) = (Arc::clone(&self.dispatch), ledger::name_of(&self.session.owner));
        if let Some(job) = dispatch.settling.delay(client, fills, self, Self::announce_settled) {
            job.announce_settled();
        }
    }

    fn announce_settled(mut self) {
        let intent = self.dispatch.intend(&self.session, &self.operation);
        let coherence = Arc::clone(&self.dispatch.coherence);
        let effects = self.effects();
        let fill = self.dispatch.filled(&self.session, &effects);
        let looked_at = self.dispatch.looked_at(&self.session, &effects);
        let takes_back = intent.as_ref().is_some_and(|intent| intent.kept(&coherence).is_some());
        let changes = !effects.changes.is_empty() || !effects.victims.is_empty() || takes_back;
        if !changes && fill.is_none() && looked_at.is_none() {
            drop(effects);
            self.intent = intent;
            return self.submit();
        }
        let mut touches = self.dispatch.touches(&self.session, &effects);
        touches.extend(looked_at.map(|ino| (ino, Leases::DATA_WRITE)));
        drop(effects);
        (self.intent, self.fill) = (intent, fill);
        let change = coherence.change();
        let (id, session) = (change.id(), self.session.id);
        self.change = Some(change);
        let admitted = match fill {
            Some(ino) => {
                let writes = self.session.opens.lock().writes(ino);
                coherence.announce_fill(id, session, (ino, writes), self, Self::submit)
            }
            None => coherence.announce(id, session, touches, self, Self::submit),
        };
        if let Some(job) = admitted {
            job.submit();
        }
    }

    /// Runs it when its peer's lane has room.
    fn submit(self) {
        let (session, dispatch) = (Arc::clone(&self.session), Arc::clone(&self.dispatch));
        session.share.lane.submit(Box::new(move || self.run()), |job| dispatch.tree.spawn(job));
    }

    /// What it changes and tells.
    fn effects(&self) -> Effects<'_> {
        // A mount of this node that remembers asks this daemon for everything.
        let past = self.session.owner.local && !self.session.remembers.load(Ordering::Acquire);
        Effects::of(&self.operation, past)
    }

    /// Executes the request; on a thread that may block.
    fn run(self) {
        if self.until.is_some_and(|until| clock::now() >= until) {
            return self.finish(Err(Failure::File(Errno::TimedOut)), Executed::No);
        }
        if self.given_up.as_ref().is_some_and(|(_, flag)| flag.load(Ordering::Acquire)) {
            return self.finish(Err(Failure::File(Errno::Intr)), Executed::No);
        }
        let Some(job) = self.extend() else { return };
        match job.operation.clone() {
            Operation::SetLock(lock) => job.run_lock(lock),
            Operation::Open(open) if job.sink.opening.is_none() => job.run_again(open.open),
            operation => job.run_once(operation),
        }
    }

    /// Announces the files that it changes by their names. `None` if they have to be waited for: it then
    /// comes again.
    fn extend(mut self) -> Option<Self> {
        let Some(id) = self.change.as_ref().map(ChangeHold::id) else { return Some(self) };
        if std::mem::replace(&mut self.extended, true) {
            return Some(self);
        }
        let effects = self.effects();
        let mut victims = self.dispatch.victims(&effects);
        victims.extend(self.dispatch.opened_unasked(&effects));
        drop(effects);
        let intent = self.intent.as_ref();
        victims.extend(intent.and_then(|intent| intent.kept(&self.dispatch.coherence)));
        if victims.is_empty() {
            return Some(self);
        }
        let coherence = Arc::clone(&self.dispatch.coherence);
        coherence.extend(id, victims, self, Self::submit)
    }

    fn run_once(mut self, operation: Operation) {
        // Before: a release takes the open file, and its number, out of the table.
        let freed = match &operation {
            Operation::Release(release) => self.session.opens.lock().ino(release.open),
            Operation::Flush(flush) if flush.owner.is_some() => {
                self.session.opens.lock().ino(flush.open)
            }
            _ => None,
        };
        let growing = self.dispatch.begin_growing(&self.session, &self.effects());
        let (answer, leases) = self.attempt_telling(operation);
        // Before the answer: what comes after it finds the change done.
        drop(self.change.take());
        let dispatch = Arc::clone(&self.dispatch);
        if let Some(ino) = growing.and_then(|growing| growing.grown(&answer)) {
            let session = self.session.id;
            let finish = move || self.finish_with(answer, leases, Executed::Yes);
            return dispatch.coherence.grew(ino, session, finish);
        }
        self.finish_with(answer, leases, Executed::Yes);
        dispatch.released(freed);
    }

    /// Executes it, with what may be remembered of the answer.
    fn attempt_telling(&self, operation: Operation) -> (Answer, Leases) {
        let (dispatch, session, effects) = (&self.dispatch, &self.session, self.effects());
        let mut telling = dispatch.begin_telling(session, &effects);
        let filling = self.fill.and_then(|ino| dispatch.begin_filling(session, &effects, ino));
        let mut answer = match self.attempt(operation) {
            Answered::Now(answer) => answer,
            Answered::Before(answer) => {
                telling = None;
                answer
            }
        };
        self.note(&answer);
        dispatch.note_removed(session, &self.operation, &answer);
        if answer.is_ok() {
            drop(dispatch.keep_changing(session, &effects));
        }
        if let Some(telling) = &mut telling {
            dispatch.watch_found(telling, &effects, &mut answer);
        }
        let guarding = telling
            .as_ref()
            .and_then(|telling| dispatch.begin_guarding(telling, session, &effects));
        if telling.is_some() || self.change.is_some() {
            dispatch.notice();
        }
        let guarded = guarding.as_ref().map(|(ino, _)| *ino);
        let own = self.change.as_ref().map(ChangeHold::id);
        let told = telling.map_or(Leases::empty(), |telling| {
            dispatch.end_telling(telling, session, own, &effects, guarded, &mut answer)
        });
        let kept = filling.zip(own).map_or(Leases::empty(), |(filling, own)| {
            dispatch.end_filling(filling, session, own, &mut answer)
        });
        drop(guarding);
        (answer, told | kept)
    }

    /// An open of what the first coming of this request has opened: it wants to know of it, and nothing
    /// more.
    fn run_again(self, open: OpenId) {
        let answer = self.opens().and_then(|opens| {
            let file = opens.find(open).ok_or(Errno::BadF);
            let opened = file.and_then(|file| self.dispatch.tree.opened(&file));
            opened.map(Outcome::Opened).map_err(|errno| opens.failure(errno))
        });
        self.finish(answer, Executed::Yes);
    }

    fn attempt(&self, operation: Operation) -> Answered {
        let (dispatch, caller) = (&self.dispatch, &self.caller);
        let opens = match self.opens() {
            Ok(opens) => opens,
            Err(failure) => return Answered::Now(Err(failure)),
        };
        let execute = |operation| {
            let plainly = |operation| dispatch.execute(caller, operation, &opens);
            dispatch.execute_for_writers(&self.session, &self.effects(), operation, plainly)
        };
        match self.named {
            None => Answered::Now(execute(operation)),
            Some(named) => {
                let (owner, asked) = (&self.session.owner, (caller, operation));
                dispatch.once.attempt(dispatch, (owner, named), asked, &opens, execute)
            }
        }
    }

    fn opens(&self) -> Result<OpensOf<'_, T>, Failure> {
        OpensOf::new(&self.session, &self.dispatch.coherence)
    }

    /// Notes which file was opened: locks that are waited for are queued by file.
    fn note(&self, answer: &Answer) {
        let (Ok(outcome), operation) = (answer, &self.operation) else { return };
        match (operation, outcome) {
            (Operation::Open(Open { open, access, proof, .. }), Outcome::Opened(opened)) => {
                let ino = opened.entry.attr.ino;
                self.session.opens.lock().identify(*open, ino, access.writes());
                // Of one that was open before it is not known whether its client keeps pages.
                if access.reads() && proof.is_some() {
                    self.dispatch.keep_length(&self.session, *open);
                }
            }
            (Operation::Create(Create { open, access, .. }), Outcome::Opened(opened)) => {
                let ino = opened.entry.attr.ino;
                self.session.opens.lock().identify(*open, ino, access.writes());
            }
            _ => {}
        }
    }

    fn run_lock(self, lock: SetLock) {
        let answer = self.attempt_lock(&lock);
        let held = matches!(answer, Err(Failure::File(Errno::Again)));
        let ino = self.session.opens.lock().ino(lock.open);
        match (held && lock.wait, ino) {
            (true, Some(ino)) => self.wait(lock, ino),
            _ => {
                let dispatch = Arc::clone(&self.dispatch);
                let freed = ino.filter(|_| answer.is_ok() && lock.kind != LockKind::Exclusive);
                self.finish(answer, Executed::Yes);
                // A shared lock in place of an exclusive one lets others in, too.
                dispatch.released(freed);
            }
        }
    }

    fn attempt_lock(&self, lock: &SetLock) -> Answer {
        self.dispatch.attempt_lock(&self.session, &self.caller, lock, &self.opens()?)
    }

    /// Queues for a lock that is held.
    fn wait(self, lock: SetLock, ino: InodeNo) {
        let longest = clock::now() + self.dispatch.limits.lock_wait;
        let deadline = self.until.map_or(longest, |until| until.min(longest));
        let flag = self.given_up.as_ref().map(|(_, flag)| Arc::clone(flag));
        let dispatch = Arc::clone(&self.dispatch);
        let job = Arc::new(self);
        let trying = Arc::clone(&job);
        let attempt = move || {
            if trying.session.ended.is_cancelled() {
                return Err(Failure::File(Errno::NoLck));
            }
            trying.attempt_lock(&lock).map(|_| ())
        };
        let answer = move |result: Result<(), Failure>| {
            if let Some(job) = Arc::into_inner(job) {
                job.finish(result.map(Outcome::Done), Executed::Yes);
            }
        };
        let waiter = Waiter::new(deadline, flag.unwrap_or_default(), attempt, answer);
        dispatch.locks.add(ino, waiter);
        // It may have been released between the attempt and now.
        dispatch.locks.sweep(ino, clock::now());
    }

    fn finish(self, answer: Answer, executed: Executed) {
        self.finish_with(answer, Leases::empty(), executed);
    }

    fn finish_with(self, answer: Answer, leases: Leases, executed: Executed) {
        if let Some((id, _)) = &self.given_up {
            self.session.waits.lock().end(*id, clock::now());
        }
        self.sink.finish(&self.session, answer, leases, executed);
    }
}

impl<T: Tree> Asked for Job<T> {
    fn asker(&self) -> Asker {
        let Caller { uid, pid, .. } = self.caller;
        Asker { operation: self.operation.name(), uid, pid }
    }
}
