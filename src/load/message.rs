//! What one node tells another of loads, in bytes: records one after the other, each with its length and its
//! version before it, so that a later version may append fields and this one still reads what it knows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Load, LoadRecord, Mebibytes, NodeFlags, Pressure, Speed, Stamp};
use crate::membership::Tag;

/// Most records of a message: the sender's own, and the freshest of the others. What a node hears in a second
/// is so much, whatever the size of the cluster. With 24 nine of ten records that a node holds are younger than
/// [`super::FRESH`] at every size (tests/sim, `loads`); with 16 they are not where there are 100 nodes.
pub const RECORDS_IN_MESSAGE: usize = 24;

/// Longest message, bytes: the record of a version to come may be longer than one of today's.
pub const MAX_MESSAGE: usize = 1_300;

/// The version of a record as it is written here.
const VERSION: u8 = 1;

/// Most processors, running processes and such that a record may say, thousandths.
const MOST: u32 = 100_000_000;

/// Longest age that is taken, tenths of a second.
const MOST_AGE: u16 = 6_000;

/// A record, and how old it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What was said.
    pub record: LoadRecord,
    /// How long ago.
    pub age: Duration,
}

/// A record as it is encoded.
#[derive(Serialize, Deserialize)]
struct OnTheWire {
    node: [u8; 8],
    incarnation: u64,
    sequence: u32,
    /// Tenths of a second. An age, and not a time: the clocks of nodes differ.
    age: u16,
    processors: u32,
    speed: u32,
    running: u32,
    memory_total: u32,
    memory_free: u32,
    swap_total: u32,
    swap_free: u32,
    pressure: Pressure,
    jobs: u16,
    guests: u16,
    flags: u8,
}

/// The message of these records; what would make it longer than [`MAX_MESSAGE`] is left out.
pub fn encode(records: impl IntoIterator<Item = Heard>) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 * RECORDS_IN_MESSAGE);
    for heard in records {
        let Ok(bytes) = postcard::to_extend(&OnTheWire::from(heard), vec![VERSION]) else {
            continue;
        };
        let Ok(length) = u8::try_from(bytes.len()) else { continue };
        if message.len() + 1 + bytes.len() > MAX_MESSAGE {
            break;
        }
        message.push(length);
        message.extend(bytes);
    }
    message
}

/// The records of a message, as far as they are understood; `None` if it is none.
pub fn decode(mut message: &[u8]) -> Option<Vec<Heard>> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    let mut records = Vec::new();
    while let Some((length, rest)) = message.split_first() {
        let (record, rest) = rest.split_at_checked(usize::from(*length))?;
        message = rest;
        let (version, fields) = record.split_first()?;
        if *version >= VERSION {
            let (wire, _later) = postcard::take_from_bytes::<OnTheWire>(fields).ok()?;
            records.push(wire.checked()?);
        }
    }
    Some(records)
}

// === impl OnTheWire ===

impl From<Heard> for OnTheWire {
    fn from(Heard { record: LoadRecord { node, stamp, load }, age }: Heard) -> Self {
        Self {
            node: *node.as_bytes(),
            incarnation: stamp.incarnation,
            sequence: stamp.sequence,
            age: u16::try_from(age.as_millis() / 100).unwrap_or(u16::MAX),
            processors: load.processors,
            speed: load.speed.units(),
            running: load.running,
            memory_total: load.memory_total.0,
            memory_free: load.memory_free.0,
            swap_total: load.swap_total.0,
            swap_free: load.swap_free.0,
            pressure: load.pressure,
            jobs: load.jobs,
            guests: load.guests,
            flags: load.flags.bits(),
        }
    }
}

impl OnTheWire {
    /// The record, if a node can be so.
    fn checked(self) -> Option<Heard> {
        let sound = (1..=MOST).contains(&self.processors)
            && self.running <= MOST
            && self.age <= MOST_AGE
            && self.memory_free <= self.memory_total
            && self.swap_free <= self.swap_total;
        let load = Load {
            processors: self.processors,
            speed: Speed::new(self.speed)?,
            running: self.running,
            memory_total: Mebibytes(self.memory_total),
            memory_free: Mebibytes(self.memory_free),
            swap_total: Mebibytes(self.swap_total),
            swap_free: Mebibytes(self.swap_free),
            pressure: self.pressure,
            jobs: self.jobs,
            guests: self.guests,
            // A flag of a later version means nothing here.
            flags: NodeFlags::from_bits_truncate(self.flags),
        };
        let stamp = Stamp { incarnation: self.incarnation, sequence: self.sequence };
        let record = LoadRecord { node: Tag::from_bytes(self.node), stamp, load };
        sound.then_some(Heard { record, age: Duration::from_millis(u64::from(self.age) * 100) })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::membership::Endpoint;

    pub(in crate::load) fn record(node: u8, sequence: u32) -> LoadRecord {
        let incarnation = Endpoint::first_incarnation(1_800_000_000);
        LoadRecord {
            node: Tag::from_bytes([node; 8]),
            stamp: Stamp { incarnation, sequence },
            load: Load {
                processors: 16_000,
                speed: Speed::YARDSTICK,
                running: 3_250,
                memory_total: Mebibytes(64 << 10),
                memory_free: Mebibytes(40 << 10),
                swap_total: Mebibytes(8 << 10),
                swap_free: Mebibytes(8 << 10),
                pressure: Pressure { cpu: 1_234, memory: 0, io: 17 },
                jobs: 12,
                guests: 3,
                flags: NodeFlags::STAY,
            },
        }
    }

    fn heard(node: u8, sequence: u32) -> Heard {
        Heard { record: record(node, sequence), age: Duration::from_millis(1_300) }
    }

    #[test]
    fn records_survive_the_wire_and_are_small() {
        let records: Vec<_> = (1..=24).map(|node| heard(node, 86_400)).collect();
        let message = encode(records.clone());
        assert_eq!(decode(&message), Some(records));
        assert!(message.len() <= RECORDS_IN_MESSAGE * 48, "{} bytes", message.len());
        assert_eq!(decode(&[]), Some(vec![]));
    }

    #[test]
    fn a_message_is_never_too_long() {
        let message = encode((0..200).map(|node| heard(node, u32::MAX)));
        assert!(message.len() <= MAX_MESSAGE);
        assert!(decode(&message).unwrap().len() >= RECORDS_IN_MESSAGE);
        assert_eq!(decode(&vec![0; MAX_MESSAGE + 1]), None);
    }

    #[test]
    fn what_is_cut_or_cannot_be_is_refused() {
        let message = encode([heard(1, 1)]);
        for cut in 1..message.len() {
            assert_eq!(decode(&message[..cut]), None, "{cut} bytes");
        }
        let spoilt: [fn(&mut LoadRecord); 4] = [
            |record| record.load.processors = 0,
            |record| record.load.running = MOST + 1,
            |record| record.load.memory_free = Mebibytes(u32::MAX),
            |record| record.load.swap_free = Mebibytes(u32::MAX),
        ];
        for spoil in spoilt {
            let mut bad = heard(1, 1);
            spoil(&mut bad.record);
            assert_eq!(decode(&encode([bad])), None);
        }
        let old = Heard { age: Duration::from_secs(601), ..heard(1, 1) };
        assert_eq!(decode(&encode([old])), None);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let mut message = encode([heard(1, 1)]);
        let length = message.len();
        message.extend([9, 9]);
        message[0] += 2;
        message[1] = VERSION + 1;
        message.extend(encode([heard(2, 1)]));
        assert_eq!(decode(&message), Some(vec![heard(1, 1), heard(2, 1)]));
        message[1] = 0;
        assert_eq!(decode(&message), Some(vec![heard(2, 1)]), "{length}");
    }
}
