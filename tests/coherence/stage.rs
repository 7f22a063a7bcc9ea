//! Where cases are played: one laboratory, pairs of observers of one tree, two actors at a time.

use std::path::{Path, PathBuf};
use std::sync::{Barrier, OnceLock};

use mfs::sync::{Mutex, RwLock};
use mfs_tests::{Cluster, Node, Setup};

use super::actor::{Actor, Hand, Late};
use super::outcome::{self, guarded};

/// A case: what two actors do and must see; panics where that is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// Its name: the promise.
    pub(super) name: &'static str,
    /// What happens.
    pub(super) run: fn(&Two<'_>),
    /// Between whom the promise holds.
    pub(super) pairs: &'static [Pair],
}

/// The cases of a file, in groups of the pairs they are for.
macro_rules! cases {
    ($($pairs:ident: $($case:ident),+ $(,)?;)+) => {
        pub(super) const CASES: &[$crate::stage::Case] = &[$($($crate::stage::Case {
            name: stringify!($case),
            run: $case,
            pairs: $crate::stage::Pair::$pairs,
        },)+)+];
    };
}
pub(super) use cases;

/// Two observers of a tree of n3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// Mounts of two other nodes.
    Remotes,
    /// Another node's mount, and n3's own with dfsa=1.
    Direct,
    /// Another node's mount, and n3's own with dfsa=0.
    Served,
    /// Another node's mount, and processes of n3 beside all mounts.
    Local,
}

/// The laboratory and the hands that rest; it comes up with the first case.
#[derive(Debug, Default)]
pub(super) struct Stage(OnceLock<Set>);

#[derive(Debug)]
struct Set {
    // Before the cluster: a hand that is left would be left on the machine.
    hands: [Mutex<Vec<Hand>>; 3],
    /// Held for writing by a case that plays alone.
    playing: RwLock<()>,
    home: PathBuf,
    cluster: Cluster,
}

/// Two actors in a new, empty directory, and those that a case brings in besides.
#[derive(Debug)]
pub(super) struct Two<'s> {
    /// The first one.
    pub(super) a: Actor,
    /// The second one.
    pub(super) b: Actor,
    sides: [Side; 2],
    directory: String,
    set: &'s Set,
}

/// A node and its way to n3's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    node: u32,
    way: &'static str,
    late: Late,
}

// === impl Pair ===

impl Pair {
    pub(super) const EVERYWHERE: &'static [Self] =
        &[Self::Remotes, Self::Direct, Self::Served, Self::Local];
    pub(super) const BETWEEN_MOUNTS: &'static [Self] = &[Self::Remotes, Self::Direct, Self::Served];
    /// All that is done to the file mfsd does.
    pub(super) const THROUGH_MFSD: &'static [Self] = &[Self::Remotes, Self::Served];
    pub(super) const REMOTE: &'static [Self] = &[Self::Remotes];

    /// The word for it in the names of tests.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Remotes => "remotes",
            Self::Direct => "direct",
            Self::Served => "served",
            Self::Local => "local",
        }
    }

    const fn sides(self) -> [Side; 2] {
        // A mount may be late to see what local processes change beside it, and in its mappings what the home's
        // own direct mount does (docs/SEMANTICS.md); what remote processes did is never late.
        let late = match self {
            Self::Local => Late::All,
            Self::Direct => Late::Mappings,
            Self::Remotes | Self::Served => Late::Never,
        };
        let remote = Side { node: 1, way: "/mfs/n3/data", late };
        let (node, way) = match self {
            Self::Remotes => (2, "/mfs/n3/data"),
            Self::Direct => (3, "/mfs/n3/data"),
            Self::Served => (3, "/mfs0/n3/data"),
            Self::Local => (3, "/data"),
        };
        // The home in turn is told of nothing that is stored elsewhere before it is written back.
        let late = match late {
            Late::Never => late,
            Late::Mappings | Late::All => Late::Mappings,
        };
        [remote, Side { node, way, late }]
    }
}

// === impl Stage ===

impl Stage {
    /// Plays a case once. In every second round the two change parts. `alone`: no other case is played at the
    /// same time, since each makes names in a directory that is above them all.
    pub(super) fn play(&self, case: &Case, pair: Pair, round: u32, alone: bool) {
        let set = self.0.get_or_init(Set::up);
        let _alone = alone.then(|| set.playing.write());
        let _beside = (!alone).then(|| set.playing.read());
        let mut sides = pair.sides();
        let directory = format!("{}-{}-{round}", case.name, pair.word());
        // What a remote process made is there for everybody at once.
        let maker = set.actor(sides[0], "");
        maker.mkdir(&format!("{}/{directory}", sides[0].way)).expect("it is new");
        maker
            .chmod(&format!("{}/{directory}", sides[0].way), 0o777)
            .expect("it can be opened to all");
        set.rest(sides[0], maker);
        if round % 2 == 1 {
            sides.reverse();
        }
        let [a, b] = sides.map(|side| set.actor(side, &directory));
        let two = Two { a, b, sides, directory, set };
        (case.run)(&two);
        let Two { a, b, sides, directory, set } = two;
        set.rest(sides[0], a);
        set.rest(sides[1], b);
        std::fs::remove_dir_all(set.home.join(directory)).expect("it can be removed");
    }
}

// === impl Set ===

impl Set {
    fn up() -> Self {
        let cluster = Setup::nodes(3).up();
        cluster.node(3).run("mkdir -p /mfs0 && mount -t mfs -o dfsa=0 mfs /mfs0");
        let home = cluster.node(3).path("/data");
        Self { hands: Default::default(), playing: RwLock::default(), home, cluster }
    }

    fn actor(&self, side: Side, directory: &str) -> Actor {
        let resting = self.hands[side.node as usize - 1].lock().pop();
        let hand = resting.unwrap_or_else(|| {
            let own = std::env::current_exe().expect("a test knows its own path");
            Hand::start(self.cluster.node(side.node).command(own))
        });
        Actor::new(hand, format!("{}/{directory}", side.way), side.late)
    }

    fn rest(&self, side: Side, actor: Actor) {
        let hand = actor.rest();
        self.hands[side.node as usize - 1].lock().push(hand);
    }
}

// === impl Two ===

impl<'s> Two<'s> {
    /// Another process beside `a`.
    pub(super) fn beside_a(&self) -> Actor {
        self.set.actor(self.sides[0], &self.directory)
    }

    /// Another process beside `b`.
    pub(super) fn beside_b(&self) -> Actor {
        self.set.actor(self.sides[1], &self.directory)
    }

    /// A number that is another one for every case, pair and round, and always the same for each.
    pub(super) fn seed(&self) -> u64 {
        // FNV-1a, which no release of a library changes.
        self.directory.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The one whose changes of names nobody sees late: for what a case begins with.
    pub(super) fn maker(&self) -> &Actor {
        if self.b.late == Late::All { &self.b } else { &self.a }
    }

    /// The one that sees nothing late.
    pub(super) fn steady(&self) -> &Actor {
        if self.a.late == Late::All { &self.b } else { &self.a }
    }

    /// A file that is there when the case begins.
    pub(super) fn given(&self, name: &str, bytes: &[u8]) {
        self.maker().put(name, bytes).expect("the directory takes a file");
    }

    /// Both at the same time; answers what each gave.
    #[track_caller]
    pub(super) fn together<X: Send, Y: Send>(
        &self,
        first: impl FnOnce(&Actor) -> X + Send,
        second: impl FnOnce(&Actor) -> Y + Send,
    ) -> (X, Y) {
        at_once(&self.a, first, &self.b, second)
    }

    /// The node of `a`.
    pub(super) fn node_of_a(&self) -> Node<'s> {
        self.set.cluster.node(self.sides[0].node)
    }

    /// The node whose tree it is, and the case's directory there.
    pub(super) fn home(&self) -> (Node<'s>, PathBuf) {
        (self.set.cluster.node(3), Path::new("/data").join(&self.directory))
    }

    /// The case's directory through another mount of the whole cluster.
    pub(super) fn through(&self, mount: &str) -> PathBuf {
        Path::new(mount).join("n3/data").join(&self.directory)
    }
}

/// Two actors at the same time.
#[track_caller]
pub(super) fn at_once<X: Send, Y: Send>(
    a: &Actor,
    first: impl FnOnce(&Actor) -> X + Send,
    b: &Actor,
    second: impl FnOnce(&Actor) -> Y + Send,
) -> (X, Y) {
    let start = Barrier::new(2);
    std::thread::scope(|threads| {
        let second = threads.spawn(|| {
            start.wait();
            guarded(|| second(b))
        });
        start.wait();
        let first = guarded(|| first(a));
        let second = second.join().expect("its panics are caught");
        (outcome::fine(first), outcome::fine(second))
    })
}
