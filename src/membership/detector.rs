//! How the failure detector is tuned for a cluster of some size. The figures it leads to are in
//! docs/MEMBERSHIP.md, measured with this very code.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

/// How often each node probes one other.
const PROBE_PERIOD: Duration = Duration::from_secs(1);

/// How long an answer to a probe may take before others are asked to probe too. Far more than a round
/// trip in a LAN: it is meant to outlast a scheduler that is busy, not a wire.
const PROBE_RTT: Duration = Duration::from_millis(500);

/// Others that are asked to probe.
const INDIRECT_PROBES: usize = 3;

/// Seconds that a suspected node has to refute, for each factor of ten in the number of nodes. News
/// reaches everybody within about 0.2 s x log2(nodes); three probe periods leave room for lost datagrams.
const SUSPICION_SECONDS: f64 = 3.0;

/// How often each node passes a piece of news on: at least, and for each factor of ten in the number of
/// nodes. Passed on k times, news misses a node with a chance of about e^-k; with 10 (the least) that is
/// one of 20,000. (4 per factor of ten alone, as is usual, is e^-6 for 40 nodes: tests/sim notices.)
const TRANSMISSIONS_LEAST: f64 = 6.0;
const TRANSMISSIONS: f64 = 4.0;

/// How often news is passed on between probes, and to how many. Costs nothing while there is no news.
const GOSSIP_PERIOD: Duration = Duration::from_millis(200);
const GOSSIP_FANOUT: usize = 3;

/// Largest frame of the detector, bytes. With the seal, the frame's kind, and the headers of IPv6 and UDP
/// it stays below an Ethernet frame (1,500), with room for a tunnel's header.
pub const MAX_FRAME: usize = 1_360;

/// How often a member is asked for more members: a belt to the braces of the member list's exchange.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(60);

/// How long it is remembered that an incarnation is dead, so that late news cannot revive it.
const FORGET_DEAD_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The detector's settings for a cluster of `nodes` nodes.
pub(super) fn tuned_for(nodes: usize) -> Config {
    // Below 10 nodes as for 10.
    let decades = (nodes.max(10) as f64).log10();
    // At most log10(usize::MAX) * 4 + 6 = 83, so neither conversion can lose anything.
    let transmissions = (TRANSMISSIONS_LEAST + TRANSMISSIONS * decades).ceil() as u8;
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: count(INDIRECT_PROBES),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: Duration::from_secs_f64(SUSPICION_SECONDS * decades),
        remove_down_after: Some(FORGET_DEAD_AFTER),
        max_packet_size: count(MAX_FRAME),
        // Who is taken for dead and is not must learn it, to come back under a new incarnation.
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: ANNOUNCE_PERIOD,
            num_members: count(1),
        }),
        // `Core` itself calls on nodes that are away, more often and at all their addresses.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: GOSSIP_PERIOD,
            num_members: count(GOSSIP_FANOUT),
        }),
    }
}

const fn count(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_fits_into_the_time_that_is_promised() {
        assert_eq!(tuned_for(1).suspect_to_down_after, Duration::from_secs(3));
        assert_eq!(tuned_for(1_000).suspect_to_down_after, Duration::from_secs(9));
        assert_eq!(tuned_for(1_000).max_transmissions.get(), 18);
        assert!(tuned_for(usize::MAX).suspect_to_down_after < Duration::from_secs(60));
    }
}
