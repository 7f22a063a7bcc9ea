//! How busy this node is, as it answers a home that asks it.

use mfs::load::NodeFlags;
use mfs_proto::v1;

use crate::node::Node;

/// Now.
pub(super) fn now(node: &Node) -> v1::LoadReply {
    let cluster = node.loads.snapshot().cluster;
    let (jobs, _) = node.jobs.counts();
    let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
    let Some(own) = cluster.own().map(|own| own.load) else {
        // It has begun a moment ago: nothing has been measured yet.
        return v1::LoadReply { processors_milli: 1_000, jobs, ..v1::LoadReply::default() };
    };
    v1::LoadReply {
        processors_milli: own.processors,
        running_milli: own.running.max(jobs.saturating_mul(1_000)),
        memory_free: own.memory_free.bytes(),
        jobs,
        speed: own.speed.units(),
        blocked: own.flags.contains(NodeFlags::BLOCKED),
    }
}
