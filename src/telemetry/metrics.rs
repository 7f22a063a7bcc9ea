//! Every metric of mfs, declared once.
//!
//! The comment of a declaration is the metric's meaning and goes as it stands into docs/METRICS.md and the
//! Prometheus text. A new metric: declare it here and run this module's tests with `MFS_BLESS=1`, which
//! writes the table anew.

use super::instruments::{
    Counter, Definition, Family, Gauge, Keeper, Kind, Metric, PerOperation, Stability, Unit,
};
use crate::types::op::Operation;

/// Values of the label `state` of [`MEMBERS`], in the order of its positions.
const MEMBER_STATES: &[&str] = &["alive", "suspect", "dead"];

/// Values of the label `request` of [`MOUNT_CACHE_HITS`] and [`MOUNT_CACHE_MISSES`], in the order of their
/// positions.
const REMEMBERED: &[&str] =
    &["lookup", "getattr", "readlink", "getxattr", "listxattr", "opendir", "open", "read"];

/// Declares the metrics, and [`ALL`] over them.
macro_rules! metrics {
    ($(
        $(#[doc = $doc:literal])+
        $symbol:ident: $instrument:ty = $name:literal,
            $kind:ident, $unit:ident, $stability:ident, $keeper:ident $(, $label:literal in $values:expr)?;
    )+) => {
        $(
            $(#[doc = $doc])+
            pub static $symbol: $instrument = <$instrument>::new(Definition {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                meaning: concat!($($doc),+),
                stability: Stability::$stability,
                keeper: Keeper::$keeper,
                label: metrics!(@label $($label in $values)?),
            });
        )+

        /// All of them, in the order of their declaration.
        pub static ALL: &[&dyn Metric] = &[$(&$symbol),+];
    };
    (@label) => { None };
    (@label $label:literal in $values:expr) => { Some(($label, $values)) };
}

metrics! {
    // The client of the file service: in a mount, and in the daemon where it asks another.

    /// Requests sent to a node, the own one included, by operation; a repeated one counts again.
    CLIENT_REQUESTS_SENT: PerOperation = "mfs_client_requests_sent_total",
        Counter, Count, Stable, Both, "operation" in Operation::NAMES;
    /// Replies received from a node, by operation; errors are replies.
    CLIENT_REPLIES_RECEIVED: PerOperation = "mfs_client_replies_received_total",
        Counter, Count, Stable, Both, "operation" in Operation::NAMES;
    /// Requests that ended without a reply: the deadline passed, the node is down, or the caller was interrupted.
    CLIENT_REQUESTS_ABANDONED: PerOperation = "mfs_client_requests_abandoned_total",
        Counter, Count, Stable, Both, "operation" in Operation::NAMES;
    /// Requests sent again after a connection was lost.
    CLIENT_REQUESTS_REPEATED: Counter = "mfs_client_requests_repeated_total",
        Counter, Count, Stable, Both;
    /// Requests that wait for their reply.
    CLIENT_REQUESTS_WAITING: Gauge = "mfs_client_requests_waiting",
        Gauge, Count, Stable, Both;
    /// Bytes of file data read from nodes over a connection.
    CLIENT_READ_BYTES: Counter = "mfs_client_read_bytes_total",
        Counter, Bytes, Stable, Both;
    /// Bytes of file data written to nodes over a connection.
    CLIENT_WRITTEN_BYTES: Counter = "mfs_client_written_bytes_total",
        Counter, Bytes, Stable, Both;
    /// Streams to nodes that are up; a session has one for control and one for bulk data.
    CLIENT_CONNECTIONS: Gauge = "mfs_client_connections",
        Gauge, Count, Stable, Both;
    /// Sessions begun with nodes.
    CLIENT_SESSIONS_BEGUN: Counter = "mfs_client_sessions_begun_total",
        Counter, Count, Stable, Both;
    /// Sessions taken up again on a new connection, nothing lost.
    CLIENT_SESSIONS_RESUMED: Counter = "mfs_client_sessions_resumed_total",
        Counter, Count, Stable, Both;
    /// Opens and locks established anew after the daemon of their home node was restarted.
    CLIENT_RECLAIMED: Counter = "mfs_client_reclaimed_total",
        Counter, Count, Stable, Both;
    /// Opens and locks that could not be established anew; their users get errors.
    CLIENT_RECLAIMS_FAILED: Counter = "mfs_client_reclaims_failed_total",
        Counter, Count, Stable, Both;

    /// Recalls of leases received from nodes; each is answered at once.
    CLIENT_RECALLS_RECEIVED: Counter = "mfs_client_recalls_received_total",
        Counter, Count, Experimental, Both;
    /// Renewals sent to nodes, because leases were held and nothing else was to be said.
    CLIENT_RENEWALS_SENT: Counter = "mfs_client_renewals_sent_total",
        Counter, Count, Experimental, Both;

    // The server of the file service.

    /// Requests received from peers and from mounts of this node, by operation.
    SERVER_REQUESTS_RECEIVED: PerOperation = "mfs_server_requests_received_total",
        Counter, Count, Stable, Daemon, "operation" in Operation::NAMES;
    /// Replies sent, by operation; errors are replies.
    SERVER_REPLIES_SENT: PerOperation = "mfs_server_replies_sent_total",
        Counter, Count, Stable, Daemon, "operation" in Operation::NAMES;
    /// Replies that were errors (ENOENT and the like), by operation.
    SERVER_REPLIES_FAILED: PerOperation = "mfs_server_replies_failed_total",
        Counter, Count, Stable, Daemon, "operation" in Operation::NAMES;
    /// Repeated requests answered from the reply cache instead of being executed twice.
    SERVER_REPLIES_REMEMBERED: Counter = "mfs_server_replies_remembered_total",
        Counter, Count, Stable, Daemon;
    /// Bytes of file data read for peers and mounts.
    SERVER_READ_BYTES: Counter = "mfs_server_read_bytes_total",
        Counter, Bytes, Stable, Daemon;
    /// Bytes of file data written for peers and mounts.
    SERVER_WRITTEN_BYTES: Counter = "mfs_server_written_bytes_total",
        Counter, Bytes, Stable, Daemon;
    /// Connections accepted that are still up.
    SERVER_CONNECTIONS: Gauge = "mfs_server_connections",
        Gauge, Count, Stable, Daemon;
    /// Connections refused: no certificate, a foreign, revoked or expired one, or no TLS at all.
    SERVER_CONNECTIONS_REFUSED: Counter = "mfs_server_connections_refused_total",
        Counter, Count, Stable, Daemon;
    /// Sessions that exist; one outlives its connection by the lease term.
    SERVER_SESSIONS: Gauge = "mfs_server_sessions",
        Gauge, Count, Stable, Daemon;
    /// Sessions ended because nothing was heard of their client for the lease term.
    SERVER_SESSIONS_EXPIRED: Counter = "mfs_server_sessions_expired_total",
        Counter, Count, Stable, Daemon;
    /// Files and directories held open for sessions.
    SERVER_OPENS: Gauge = "mfs_server_opens",
        Gauge, Count, Stable, Daemon;
    /// Requests that wait for a lock held by another.
    SERVER_LOCKS_WAITING: Gauge = "mfs_server_locks_waiting",
        Gauge, Count, Stable, Daemon;
    /// Descriptors in use for sessions.
    SERVER_DESCRIPTORS: Gauge = "mfs_server_descriptors",
        Gauge, Count, Stable, Daemon;
    /// Most descriptors that sessions may use together.
    SERVER_DESCRIPTORS_LIMIT: Gauge = "mfs_server_descriptors_limit",
        Gauge, Count, Stable, Daemon;
    /// Opens refused because the descriptors for sessions were used up.
    SERVER_DESCRIPTORS_REFUSED: Counter = "mfs_server_descriptors_refused_total",
        Counter, Count, Stable, Daemon;
    /// Files on which sessions hold leases, counted by session.
    SERVER_LEASES: Gauge = "mfs_server_leases",
        Gauge, Count, Experimental, Daemon;
    /// Files of this node of which writes by local processes are noticed.
    SERVER_FILES_WATCHED: Gauge = "mfs_server_files_watched",
        Gauge, Count, Experimental, Daemon;
    /// Files that no local process opens for writing unnoticed, since mounts open and read them without a message.
    SERVER_FILES_GUARDED: Gauge = "mfs_server_files_guarded",
        Gauge, Count, Experimental, Daemon;
    /// Most of them: a quarter of the descriptors that mfsd may open.
    SERVER_FILES_GUARDED_LIMIT: Gauge = "mfs_server_files_guarded_limit",
        Gauge, Count, Experimental, Daemon;
    /// Local openings for writing that waited for mounts to let a file go, counted by file.
    SERVER_WRITERS_AWAITED: Counter = "mfs_server_writers_awaited_total",
        Counter, Count, Experimental, Daemon;
    /// Jobs that run on this node.
    JOBS_HOSTED: Gauge = "mfs_jobs_hosted",
        Gauge, Count, Experimental, Daemon;
    /// Jobs that run on this node and have another for their home.
    JOBS_GUESTS: Gauge = "mfs_jobs_guests",
        Gauge, Count, Experimental, Daemon;
    /// Processors that the jobs on this node take, thousandths.
    JOBS_CPU: Gauge = "mfs_jobs_cpu_thousandths",
        Gauge, Count, Experimental, Daemon;
    /// Memory of the processes of all jobs on this node; what they share counts several times.
    JOBS_RESIDENT: Gauge = "mfs_jobs_resident_bytes",
        Gauge, Bytes, Experimental, Daemon;
    /// Seconds in which a job of this node had better run elsewhere, by what was known then; the log of mfsd says at debug level where, and why.
    JOBS_BETTER_ELSEWHERE: Counter = "mfs_jobs_better_elsewhere_total",
        Counter, Count, Experimental, Daemon;
    /// Jobs of other nodes that this one did not take, because it is blocked.
    JOBS_REFUSED: Counter = "mfs_jobs_refused_total",
        Counter, Count, Experimental, Daemon;
    /// Leases granted with answers, counted by file.
    SERVER_LEASES_GRANTED: Counter = "mfs_server_leases_granted_total",
        Counter, Count, Experimental, Daemon;
    /// Leases asked back from sessions, counted by file.
    SERVER_RECALLS: Counter = "mfs_server_recalls_total",
        Counter, Count, Experimental, Daemon;
    /// Leases that sessions gave back, counted by file.
    SERVER_LEASES_RETURNED: Counter = "mfs_server_leases_returned_total",
        Counter, Count, Experimental, Daemon;
    /// Conflict copies begun: files that others had changed before a client that was away wrote back what it had stored.
    SERVER_CONFLICT_COPIES: Counter = "mfs_server_conflict_copies_total",
        Counter, Count, Experimental, Daemon;
    /// Sessions ended because they did not give back what they were asked for.
    SERVER_RECALLS_UNANSWERED: Counter = "mfs_server_recalls_unanswered_total",
        Counter, Count, Experimental, Daemon;
    /// Changes that had to wait for leases, or for another change of the same directory.
    SERVER_CHANGES_DELAYED: Counter = "mfs_server_changes_delayed_total",
        Counter, Count, Experimental, Daemon;
    /// Changes that wait for leases, or for another change of the same directory.
    SERVER_CHANGES_WAITING: Gauge = "mfs_server_changes_waiting",
        Gauge, Count, Experimental, Daemon;
    /// Files changed by processes of this node beside mfs, as they were noticed.
    SERVER_LOCAL_CHANGES: Counter = "mfs_server_local_changes_total",
        Counter, Count, Experimental, Daemon;

    // The mount.

    /// Requests of the kernel, of any kind.
    MOUNT_REQUESTS: Counter = "mfs_mount_requests_total",
        Counter, Count, Stable, Mount;
    /// Requests of the kernel answered with EIO, ETIMEDOUT or EHOSTDOWN.
    MOUNT_REQUESTS_FAILED: Counter = "mfs_mount_requests_failed_total",
        Counter, Count, Stable, Mount;
    /// Requests of the kernel not answered yet.
    MOUNT_REQUESTS_WAITING: Gauge = "mfs_mount_requests_waiting",
        Gauge, Count, Stable, Mount;
    /// Requests of the kernel about files of nodes that were answered from what is remembered under leases.
    MOUNT_CACHE_HITS: Family<{ REMEMBERED.len() }> = "mfs_mount_cache_hits_total",
        Counter, Count, Experimental, Mount, "request" in REMEMBERED;
    /// Requests of the kernel that could have been so answered, and for which a node that grants leases was asked.
    MOUNT_CACHE_MISSES: Family<{ REMEMBERED.len() }> = "mfs_mount_cache_misses_total",
        Counter, Count, Experimental, Mount, "request" in REMEMBERED;
    /// Operations executed on this node's own files directly (dfsa=1), by operation.
    MOUNT_DIRECT_OPERATIONS: PerOperation = "mfs_mount_direct_operations_total",
        Counter, Count, Stable, Mount, "operation" in Operation::NAMES;
    /// Opens whose reads and writes the kernel does on the local file itself (dfsa=1, Linux 6.9 or later).
    MOUNT_PASSTHROUGH_OPENS: Counter = "mfs_mount_passthrough_opens_total",
        Counter, Count, Stable, Mount;
    /// Pieces of files that were stored through mappings here and are in conflict copies, as others had changed the file.
    MOUNT_WRITES_APART: Counter = "mfs_mount_writes_apart_total",
        Counter, Count, Experimental, Mount;
    /// Files and directories open through the mount.
    MOUNT_OPENS: Gauge = "mfs_mount_opens",
        Gauge, Count, Stable, Mount;
    /// Files the kernel holds in mind: their lookup count is above 0.
    MOUNT_INODES: Gauge = "mfs_mount_inodes",
        Gauge, Count, Stable, Mount;

    // Membership.

    /// Members of the cluster as this node sees them, itself included, by the detector's verdict.
    MEMBERS: Family<{ MEMBER_STATES.len() }> = "mfs_members",
        Gauge, Count, Stable, Daemon, "state" in MEMBER_STATES;
    /// Gossip datagrams sent.
    GOSSIP_DATAGRAMS_SENT: Counter = "mfs_gossip_datagrams_sent_total",
        Counter, Count, Stable, Daemon;
    /// Gossip datagrams received and taken.
    GOSSIP_DATAGRAMS_RECEIVED: Counter = "mfs_gossip_datagrams_received_total",
        Counter, Count, Stable, Daemon;
    /// Gossip datagrams dropped: the seal was wrong, old, or of a removed node.
    GOSSIP_DATAGRAMS_REFUSED: Counter = "mfs_gossip_datagrams_refused_total",
        Counter, Count, Stable, Daemon;
    /// Bytes of gossip sent, seals included, UDP and IP headers not.
    GOSSIP_SENT_BYTES: Counter = "mfs_gossip_sent_bytes_total",
        Counter, Bytes, Stable, Daemon;
    /// Bytes of gossip received, whether taken or dropped.
    GOSSIP_RECEIVED_BYTES: Counter = "mfs_gossip_received_bytes_total",
        Counter, Bytes, Stable, Daemon;
    /// Processes that run or wait for a processor on this node, thousandths, as it tells the others.
    LOAD_RUNNING: Gauge = "mfs_load_running_thousandths",
        Gauge, Count, Experimental, Daemon;
    /// Processors that this node may use, thousandths.
    LOAD_PROCESSORS: Gauge = "mfs_load_processors_thousandths",
        Gauge, Count, Experimental, Daemon;
    /// How fast a processor of this node is taken for; the yardstick has 10,000.
    LOAD_SPEED: Gauge = "mfs_load_speed",
        Gauge, Count, Experimental, Daemon;
    /// Other nodes whose load this one holds.
    LOAD_RECORDS: Gauge = "mfs_load_records",
        Gauge, Count, Experimental, Daemon;
    /// Messages about loads sent, one each second.
    LOAD_MESSAGES_SENT: Counter = "mfs_load_messages_sent_total",
        Counter, Count, Experimental, Daemon;
    /// Messages about loads that came and were taken.
    LOAD_MESSAGES_RECEIVED: Counter = "mfs_load_messages_received_total",
        Counter, Count, Experimental, Daemon;
    /// Messages about loads that came and made no sense.
    LOAD_MESSAGES_REFUSED: Counter = "mfs_load_messages_refused_total",
        Counter, Count, Experimental, Daemon;
    /// Beacons sent on the local networks.
    BEACONS_SENT: Counter = "mfs_beacons_sent_total",
        Counter, Count, Stable, Daemon;
    /// Beacons of this cluster heard on the local networks.
    BEACONS_RECEIVED: Counter = "mfs_beacons_received_total",
        Counter, Count, Stable, Daemon;
}

/// The table that docs/METRICS.md ends with.
pub fn table() -> String {
    let mut table = String::from(
        "| name | kind | unit | kept by | label | stability | meaning |\n|---|---|---|---|---|---|---|\n",
    );
    for metric in ALL {
        let d = metric.definition();
        let label = d.label.map_or("", |(name, _)| name);
        table.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} | {} |\n",
            d.name,
            d.kind.word(),
            d.unit.word(),
            d.keeper.word(),
            label,
            d.stability.word(),
            d.meaning.trim(),
        ));
    }
    table
}

// === impl Kind, Unit, Stability, Keeper ===

impl Kind {
    /// The word of the table and of the Prometheus text.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

impl Unit {
    /// The word of the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

impl Stability {
    /// The word of the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Experimental => "experimental",
        }
    }
}

impl Keeper {
    /// The words of the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Daemon => "mfsd",
            Self::Mount => "mount",
            Self::Both => "mfsd, mount",
        }
    }

    /// Whether a process of the kind `process` keeps it.
    pub fn includes(self, process: Self) -> bool {
        self == Self::Both || self == process
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_kind_and_unit() {
        let mut seen = HashSet::new();
        for metric in ALL {
            let d = metric.definition();
            assert!(seen.insert(d.name), "{} is declared twice", d.name);
            assert!(d.name.starts_with("mfs_"), "{}", d.name);
            assert!(d.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", d.name);
            assert_eq!(d.name.ends_with("_total"), d.kind == Kind::Counter, "{}", d.name);
            assert_eq!(d.name.contains("_bytes"), d.unit == Unit::Bytes, "{}", d.name);
            assert_eq!(d.name.contains("_seconds"), d.unit == Unit::Seconds, "{}", d.name);
            assert!(d.meaning.trim().ends_with('.'), "{}: the meaning is a sentence", d.name);
            assert!(!d.meaning.contains('|'), "{}: would break the table", d.name);
        }
    }

    #[test]
    fn the_document_has_the_table_of_the_definitions() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
        let document = std::fs::read_to_string(path).unwrap();
        let (words, _) = document.split_once("| name |").unwrap();
        let wanted = words.to_owned() + &table();
        if std::env::var_os("MFS_BLESS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert_eq!(document, wanted, "docs/METRICS.md is old: run this test once with MFS_BLESS=1");
    }

    #[test]
    fn operations_are_counted_under_their_names() {
        let release = Operation::Release(crate::types::op::Release {
            open: crate::types::OpenId::new(1).unwrap(),
        });
        static FAMILY: PerOperation = PerOperation::new(Definition {
            name: "mfs_test_total",
            kind: Kind::Counter,
            unit: Unit::Count,
            meaning: " For this test.",
            stability: Stability::Experimental,
            keeper: Keeper::Both,
            label: Some(("operation", Operation::NAMES)),
        });
        FAMILY.count(&release);
        FAMILY.count(&release);
        FAMILY.add_one(usize::MAX);
        let super::super::Value::ByLabel(figures) = FAMILY.read() else {
            unreachable!("a family reads by label")
        };
        assert_eq!(figures.into_iter().collect::<Vec<_>>(), [("Release".to_owned(), 2)]);
    }

    #[test]
    fn a_held_gauge_comes_back_to_where_it_was() {
        let before = SERVER_LOCKS_WAITING.value();
        let held = SERVER_LOCKS_WAITING.hold();
        assert_eq!(SERVER_LOCKS_WAITING.value(), before + 1);
        drop(held);
        assert_eq!(SERVER_LOCKS_WAITING.value(), before);
    }
}
