//! Conversion of loads: how busy a node is, and what is wanted of it.

use std::time::Duration;

use mfs_proto::v1;
use serde::Serialize;

use super::cluster::{node_id, node_id_bytes};
use super::error::{Malformed, Problem};
use crate::load::{Lending, Load, Mebibytes, NodeFlags, NodeLoad, Pressure, Speed, Wish};
use crate::types::NodeId;

/// How busy a node is, as the daemon tells a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ToldLoad {
    /// Which node.
    #[serde(skip)]
    pub id: NodeId,
    /// What it said.
    #[serde(flatten)]
    pub load: Load,
    /// How long ago, milliseconds.
    pub age_ms: u64,
}

// === impl v1::NodeLoad ===

impl From<&NodeLoad> for v1::NodeLoad {
    fn from(NodeLoad { id, load, age, .. }: &NodeLoad) -> Self {
        Self {
            id: node_id_bytes(*id),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            processors_milli: load.processors,
            speed: load.speed.units(),
            running_milli: load.running,
            memory_total: load.memory_total.bytes(),
            memory_free: load.memory_free.bytes(),
            swap_total: load.swap_total.bytes(),
            swap_free: load.swap_free.bytes(),
            pressure_cpu: load.pressure.cpu.into(),
            pressure_memory: load.pressure.memory.into(),
            pressure_io: load.pressure.io.into(),
            jobs: load.jobs.into(),
            guests: load.guests.into(),
            flags: load.flags.bits().into(),
        }
    }
}

impl TryFrom<v1::NodeLoad> for ToldLoad {
    type Error = Malformed;

    fn try_from(told: v1::NodeLoad) -> Result<Self, Malformed> {
        let short = |field, number: u32| {
            u16::try_from(number).map_err(|_| {
                let limit = u16::MAX.into();
                Malformed::new(field, Problem::OutOfRange { value: number.into(), limit })
            })
        };
        let flags = u8::try_from(told.flags).ok().and_then(NodeFlags::from_bits);
        let load = Load {
            processors: told.processors_milli,
            speed: speed("NodeLoad.speed", told.speed)?
                .ok_or(Malformed::missing("NodeLoad.speed"))?,
            running: told.running_milli,
            memory_total: Mebibytes::of_bytes(told.memory_total),
            memory_free: Mebibytes::of_bytes(told.memory_free),
            swap_total: Mebibytes::of_bytes(told.swap_total),
            swap_free: Mebibytes::of_bytes(told.swap_free),
            pressure: Pressure {
                cpu: short("NodeLoad.pressure_cpu", told.pressure_cpu)?,
                memory: short("NodeLoad.pressure_memory", told.pressure_memory)?,
                io: short("NodeLoad.pressure_io", told.pressure_io)?,
            },
            jobs: short("NodeLoad.jobs", told.jobs)?,
            guests: short("NodeLoad.guests", told.guests)?,
            flags: flags.ok_or(Malformed::new("NodeLoad.flags", Problem::UnknownBits))?,
        };
        Ok(Self { id: node_id("NodeLoad.id", &told.id)?, load, age_ms: told.age_ms })
    }
}

/// A speed; 0 is none.
fn speed(field: &'static str, units: u32) -> Result<Option<Speed>, Malformed> {
    let limit = (*Speed::RANGE.end()).into();
    match units {
        0 => Ok(None),
        units => Speed::new(units)
            .map(Some)
            .ok_or(Malformed::new(field, Problem::OutOfRange { value: units.into(), limit })),
    }
}

// === impl v1::LendRequest ===

impl From<Wish> for v1::LendRequest {
    fn from(wish: Wish) -> Self {
        use v1::lend_request::Change;
        let change = match wish {
            Wish::Lend(lending) => Change::Lending(
                match lending {
                    Lending::Always => v1::Lending::Always,
                    Lending::WhenIdle => v1::Lending::WhenIdle,
                    Lending::Never => v1::Lending::Never,
                }
                .into(),
            ),
            Wish::Stay(stay) => Change::Stay(stay),
            Wish::Quiet(quiet) => Change::Quiet(quiet),
            Wish::Speed(speed) => Change::Speed(speed.map_or(0, Speed::units)),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<v1::LendRequest> for Wish {
    type Error = Malformed;

    fn try_from(request: v1::LendRequest) -> Result<Self, Malformed> {
        use v1::lend_request::Change;
        Ok(match request.change.ok_or(Malformed::missing("LendRequest.change"))? {
            Change::Lending(lending) => Self::Lend(match v1::Lending::try_from(lending) {
                Ok(v1::Lending::Always) => Lending::Always,
                Ok(v1::Lending::WhenIdle) => Lending::WhenIdle,
                Ok(v1::Lending::Never) => Lending::Never,
                Ok(v1::Lending::Unspecified) | Err(_) => {
                    return Err(Malformed::unknown("LendRequest.lending"));
                }
            }),
            Change::Stay(stay) => Self::Stay(stay),
            Change::Quiet(quiet) => Self::Quiet(quiet),
            Change::Speed(units) => Self::Speed(speed("LendRequest.speed", units)?),
        })
    }
}

impl ToldLoad {
    /// How long ago it was said.
    pub const fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Tag;

    fn load() -> Load {
        Load {
            processors: 1_500,
            speed: Speed::YARDSTICK,
            running: 700,
            memory_total: Mebibytes(8),
            memory_free: Mebibytes(7),
            swap_total: Mebibytes(6),
            swap_free: Mebibytes(5),
            pressure: Pressure { cpu: 4, memory: 3, io: 2 },
            jobs: 1,
            guests: 1,
            flags: NodeFlags::STAY,
        }
    }

    #[test]
    fn loads_survive_and_nonsense_is_refused() {
        let id = NodeId::from_digest([3; 32]);
        let (name, age) = ("n1".parse().unwrap(), Duration::from_millis(1_234));
        let node = NodeLoad { tag: Tag::of(id), id, name, load: load(), age, alive: true };
        let told = v1::NodeLoad::from(&node);
        let wanted = ToldLoad { id, load: load(), age_ms: 1_234 };
        assert_eq!(ToldLoad::try_from(told.clone()), Ok(wanted));
        assert_eq!(wanted.age(), age);
        let spoilt: [fn(&mut v1::NodeLoad); 5] = [
            |told| told.speed = 0,
            |told| told.speed = u32::MAX,
            |told| told.flags = 128,
            |told| told.jobs = 65_536,
            |told| told.id.clear(),
        ];
        for spoil in spoilt {
            let mut bad = told.clone();
            spoil(&mut bad);
            assert!(ToldLoad::try_from(bad).is_err());
        }
    }

    #[test]
    fn wishes_survive_and_nonsense_is_refused() {
        for wish in [
            Wish::Lend(Lending::Always),
            Wish::Lend(Lending::WhenIdle),
            Wish::Lend(Lending::Never),
            Wish::Stay(true),
            Wish::Quiet(false),
            Wish::Speed(None),
            Wish::Speed(Some(Speed::YARDSTICK)),
        ] {
            assert_eq!(Wish::try_from(v1::LendRequest::from(wish)), Ok(wish));
        }
        use v1::lend_request::Change;
        for change in [Change::Lending(0), Change::Lending(9), Change::Speed(u32::MAX)] {
            assert!(Wish::try_from(v1::LendRequest { change: Some(change) }).is_err());
        }
        assert!(Wish::try_from(v1::LendRequest { change: None }).is_err());
    }
}
