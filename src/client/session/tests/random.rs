//! Random orders of events: nothing is done twice, nothing is left out, nothing is left behind.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::model::{World, file};
use crate::client::session::{Event, Lane, Note};
use crate::types::op::{
    Create, LockFamily, LockKind, LockRange, Lookup, MakeDir, Open, Operation, Read, Release,
    SetLock, Sync, Taking, Write,
};
use crate::types::{Access, Errno, FileName, LockOwner, OpenFlags, OpenId, RequestId};
use crate::wire::features;

#[derive(Debug, Clone, Copy)]
enum Move {
    MakeDir,
    Lookup,
    Open,
    Create,
    /// On the n-th open that a caller has.
    Write(usize),
    Read(usize),
    Sync(usize),
    Lock(usize, bool),
    Unlock(usize),
    Release(usize),
    /// The n-th caller that waits.
    GiveUp(usize),
    Connect(Lane),
    Serve(Lane),
    Hear(Lane),
    Cut(Lane),
    CutLate(Lane),
    Restart,
    ForgetSession,
    Pass(u64),
    Away,
    Back,
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Control), Just(Lane::Bulk)]
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => Just(Move::MakeDir),
        2 => Just(Move::Lookup),
        3 => Just(Move::Open),
        2 => Just(Move::Create),
        4 => (0..4_usize).prop_map(Move::Write),
        2 => (0..4_usize).prop_map(Move::Read),
        1 => (0..4_usize).prop_map(Move::Sync),
        3 => (0..4_usize, any::<bool>()).prop_map(|(n, wait)| Move::Lock(n, wait)),
        2 => (0..4_usize).prop_map(Move::Unlock),
        3 => (0..4_usize).prop_map(Move::Release),
        2 => (0..6_usize).prop_map(Move::GiveUp),
        6 => lane().prop_map(Move::Connect),
        12 => lane().prop_map(Move::Serve),
        12 => lane().prop_map(Move::Hear),
        2 => lane().prop_map(Move::Cut),
        2 => lane().prop_map(Move::CutLate),
        1 => Just(Move::Restart),
        1 => Just(Move::ForgetSession),
        1 => (1..20_000_u64).prop_map(Move::Pass),
        1 => Just(Move::Away),
        1 => Just(Move::Back),
    ]
}

/// What the callers know: which opens they hold, by what they were told.
#[derive(Debug, Default)]
struct Callers {
    names: u32,
    opens: u64,
    released: HashSet<OpenId>,
}

impl Callers {
    fn held(&self, world: &World) -> Vec<OpenId> {
        let opened = world.asked.iter().filter_map(|(id, operation)| {
            let answered = matches!(world.answers.get(id), Some(Ok(_)));
            match operation {
                Operation::Open(o) if answered => Some(o.open),
                Operation::Create(o) if answered => Some(o.open),
                _ => None,
            }
        });
        let mut held: Vec<_> = opened.filter(|open| !self.released.contains(open)).collect();
        held.sort_unstable();
        held
    }

    fn name(&mut self) -> FileName {
        self.names += 1;
        FileName::parse(format!("d{}", self.names).into_bytes()).expect("a good name")
    }

    fn next_open(&mut self) -> OpenId {
        self.opens += 1;
        OpenId::new(self.opens).expect("not 0")
    }
}

fn lock(open: OpenId, kind: LockKind, wait: bool) -> SetLock {
    // One owner for each request kind keeps what is expected plain: a lock is held or not.
    let owner = LockOwner(open.get());
    let (family, range, taking) = (LockFamily::Range, LockRange::ALL, Taking::default());
    SetLock { open, owner, family, kind, range, wait, taking }
}

fn make(world: &mut World, callers: &mut Callers, step: Move) {
    let nth = |world: &World, callers: &Callers, n: usize| callers.held(world).get(n).copied();
    let plain = OpenFlags::empty();
    match step {
        Move::MakeDir => {
            let name = callers.name();
            world.submit(MakeDir { parent: file("root"), name, mode: 0o755 });
        }
        Move::Lookup => {
            let name = callers.name();
            world.submit(Lookup { parent: file("root"), name, keep: false });
        }
        Move::Open => {
            let open = callers.next_open();
            let file = file(&format!("f{open}"));
            world.submit(Open { file, open, access: Access::ReadWrite, flags: plain, proof: None });
        }
        Move::Create => {
            let (open, name) = (callers.next_open(), callers.name());
            let flags = OpenFlags::EXCLUSIVE;
            let access = Access::ReadWrite;
            world.submit(Create { parent: file("root"), name, open, mode: 0o644, access, flags });
        }
        Move::Write(n) => {
            if let Some(open) = nth(world, callers, n) {
                callers.names += 1; // makes every write another one
                let offset = u64::from(callers.names);
                world.submit(Write {
                    open,
                    offset,
                    data: Bytes::from_static(b"x"),
                    pages: false,
                    known: None,
                });
            }
        }
        Move::Read(n) => {
            if let Some(open) = nth(world, callers, n) {
                world.submit(Read { open, offset: 0, size: 1, pages: false });
            }
        }
        Move::Sync(n) => {
            if let Some(open) = nth(world, callers, n) {
                world.submit(Sync { open, data_only: false });
            }
        }
        Move::Lock(n, wait) => {
            if let Some(open) = nth(world, callers, n) {
                world.submit(lock(open, LockKind::Exclusive, wait));
            }
        }
        Move::Unlock(n) => {
            if let Some(open) = nth(world, callers, n) {
                world.submit(lock(open, LockKind::Unlock, false));
            }
        }
        Move::Release(n) => {
            // As a kernel does: only when nothing on the open is under way.
            if let Some(open) = nth(world, callers, n).filter(|open| !is_busy(world, *open)) {
                callers.released.insert(open);
                world.submit(Release { open });
            }
        }
        Move::GiveUp(n) => {
            let waiting = world
                .asked
                .keys()
                .filter(|id| !world.answers.contains_key(id) && !world.given_up.contains(id));
            if let Some(id) = waiting.copied().nth(n) {
                world.give_up(id);
            }
        }
        Move::Connect(lane) => world.connect(lane),
        Move::Serve(lane) => drop(world.serve(lane)),
        Move::Hear(lane) => drop(world.hear(lane)),
        Move::Cut(lane) => world.cut(lane),
        Move::CutLate(lane) => world.cut_late(lane),
        Move::Restart => world.restart(),
        Move::ForgetSession => {
            world.server.forget_session();
            world.cut(Lane::Bulk);
            world.cut(Lane::Control);
        }
        Move::Pass(ms) => {
            world.now += Duration::from_millis(ms);
            world.step(Event::Tick);
        }
        Move::Away => world.step(Event::Away(Errno::HostDown)),
        Move::Back => world.step(Event::Back),
    }
}

fn is_busy(world: &World, open: OpenId) -> bool {
    world.asked.iter().any(|(id, operation)| {
        !world.answers.contains_key(id)
            && !world.given_up.contains(id)
            && crate::client::session::nature::opens_of(operation).any(|o| o == open)
    })
}

/// Checks what must hold when all is over.
fn check(world: &World, callers: &Callers) {
    assert!(!world.session.wants_bulk() && !world.session.awaits_answer());
    for (id, operation) in &world.asked {
        let answer = world.answers.get(id);
        assert_eq!(answer.is_some(), !world.given_up.contains(id), "{id} {operation:?}");
        let times = world.times_done(operation);
        match (operation, answer) {
            // Nothing is done twice, whatever became of connections and sessions.
            (Operation::MakeDir(_) | Operation::Create(_), _) if times > 1 => {
                unreachable!("{operation:?} was done {times} times")
            }
            // A session that is over has closed its opens; there is nothing left to do.
            (Operation::Release(_), Some(Ok(_))) => {}
            // Nothing is said to be done that is not.
            (_, Some(Ok(_))) => assert!(times >= 1, "{operation:?}"),
            (_, Some(Err(Errno::Io | Errno::HostDown | Errno::TimedOut | Errno::BadF)) | None) => {}
            (_, Some(Err(other))) => unreachable!("{operation:?} was answered {other}"),
        }
    }
    // Nothing is left behind, nothing is lost.
    let held: BTreeSet<_> = callers.held(world).into_iter().collect();
    let served: BTreeSet<_> = world.server.opens.keys().copied().collect();
    assert!(served.is_subset(&held), "left open: {served:?}, held are {held:?}");
    let hung = |open: &&OpenId| {
        world.notes.iter().any(|note| matches!(note, Note::NotReclaimed(lost, _) if lost == *open))
    };
    let lost: Vec<_> = held.difference(&served).filter(|open| !hung(open)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    // The server's locks are those of the last answers that said so.
    for open in held.iter().filter(|open| !hung(open)) {
        let calls: Vec<(&RequestId, LockKind)> = world
            .asked
            .iter()
            .filter_map(|(id, operation)| match operation {
                Operation::SetLock(o) if o.open == *open => Some((id, o.kind)),
                _ => None,
            })
            .collect();
        let told = |id| matches!(world.answers.get(id), Some(Ok(_)));
        let locked = world.server.locks.contains(&(*open, LockOwner(open.get())));
        // Requests that overlap may be executed in either order; where all lock, or none does, it is plain.
        if calls.iter().all(|(_, kind)| *kind != LockKind::Unlock) {
            let given_up = calls.iter().any(|(id, _)| !told(id));
            assert!(!locked || calls.iter().any(|(id, _)| told(id)), "nobody was told of a lock");
            assert!(locked || given_up || calls.is_empty(), "a lock was lost");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_twice_and_nothing_is_left_out(
        moves in prop::collection::vec(any_move(), 0..120), knows in any::<bool>()
    ) {
        let mut world = World::new();
        world.server.features = if knows { features::REPLIES } else { 0 };
        let mut callers = Callers::default();
        for step in moves {
            make(&mut world, &mut callers, step);
        }
        world.run_dry();
        check(&world, &callers);
    }
}
