//! `LoadRecord`: what a node says of how busy it is, at one moment.

use std::fmt;

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

use crate::membership::Tag;

/// What a node said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadRecord {
    /// Which node.
    pub node: Tag,
    /// When, in its own order.
    pub stamp: Stamp,
    /// What.
    pub load: Load,
}

/// Orders what one node says: of two records of a node the one with the higher stamp counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The node's incarnation.
    pub incarnation: u64,
    /// Counts its records up within the incarnation.
    pub sequence: u32,
}

/// How busy a node is, and what there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Processors that it may use, thousandths: a quota counts. Never 0 in a record that was heard.
    #[serde(rename = "processors_milli")]
    pub processors: u32,
    /// How fast one of them is.
    pub speed: Speed,
    /// Processes that run or wait for a processor, mean of the last moments, thousandths.
    #[serde(rename = "running_milli")]
    pub running: u32,
    /// Its memory.
    pub memory_total: Mebibytes,
    /// What of it new processes can have without swapping.
    pub memory_free: Mebibytes,
    /// Its swap space.
    pub swap_total: Mebibytes,
    /// What of it is not used.
    pub swap_free: Mebibytes,
    /// How long processes wait in vain.
    pub pressure: Pressure,
    /// Jobs that it runs, its own included.
    pub jobs: u16,
    /// Those of them whose home is another node.
    pub guests: u16,
    /// What its administrator wants.
    pub flags: NodeFlags,
}

/// Share of the last ten seconds in which some process waited for something (`some avg10` of
/// `/proc/pressure`), hundredths of a per cent; 0 where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor.
    pub cpu: u16,
    /// For memory.
    pub memory: u16,
    /// For disks.
    pub io: u16,
}

/// How fast a processor is, in units of the yardstick: [`Speed::YARDSTICK`] is as fast as it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Speed(u32);

/// An amount of memory, in units of 1,048,576 bytes: fine enough to decide by, and short in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mebibytes(pub u32);

bitflags! {
    /// What a node's administrator wants of it, as others see it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct NodeFlags: u8 {
        /// It takes no guests at present: jobs of other homes.
        const BLOCKED = 1;
        /// It takes guests only while it is idle (`mfs block --when-busy`).
        const WHEN_IDLE = 1 << 1;
        /// Its own users need it: the guests that it has are to go.
        const GUESTS_GO = 1 << 2;
        /// No job is moved away from it by itself.
        const STAY = 1 << 3;
        /// It does not tell its load. Seen on the node itself alone, as it tells nobody.
        const QUIET = 1 << 4;
    }
}

// === impl Speed ===

impl Speed {
    /// The speed of the yardstick.
    pub const YARDSTICK: Self = Self(10_000);

    /// The least and the most that a node can be.
    pub const RANGE: std::ops::RangeInclusive<u32> = 1..=10_000_000;

    /// So many units; `None` if no processor can be that slow or fast.
    pub fn new(units: u32) -> Option<Self> {
        Self::RANGE.contains(&units).then_some(Self(units))
    }

    /// So many units, or the nearest that there are.
    pub fn nearest(units: u64) -> Self {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self(units.clamp(*Self::RANGE.start(), *Self::RANGE.end()))
    }

    /// How many units.
    pub const fn units(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Mebibytes ===

impl Mebibytes {
    /// Bytes, cut to whole units.
    pub fn of_bytes(bytes: u64) -> Self {
        Self(u32::try_from(bytes >> 20).unwrap_or(u32::MAX))
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl Serialize for Mebibytes {
    /// In bytes, as programs want it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bytes())
    }
}

// === impl NodeFlags ===

impl NodeFlags {
    /// The words for people, in the order of the flags.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let words = [
            (Self::BLOCKED, "blocked"),
            (Self::WHEN_IDLE, "when-idle"),
            (Self::GUESTS_GO, "guests-go"),
            (Self::STAY, "stay"),
            (Self::QUIET, "quiet"),
        ];
        words.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, word)| word)
    }
}

impl Serialize for NodeFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_cut_and_never_wrap() {
        assert_eq!(Mebibytes::of_bytes((5 << 20) + 17).bytes(), 5 << 20);
        assert_eq!(Mebibytes::of_bytes(u64::MAX), Mebibytes(u32::MAX));
        assert_eq!(Speed::nearest(0).units(), 1);
        assert_eq!(Speed::nearest(u64::MAX).units(), *Speed::RANGE.end());
        assert_eq!(Speed::new(0), None);
    }

    #[test]
    fn flags_have_words() {
        let flags = NodeFlags::STAY | NodeFlags::BLOCKED;
        assert_eq!(flags.words().collect::<Vec<_>>(), ["blocked", "stay"]);
        assert_eq!(NodeFlags::all().words().count(), 5);
    }
}
