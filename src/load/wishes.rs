//! `Wishes`: what the administrator wants of a node.

use serde::{Deserialize, Serialize};

use super::{Lending, NodeFlags, Speed};

/// What the administrator wants of a node. Kept over a restart, so what is missing is as it is by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// To whom it lends itself.
    pub lending: Lending,
    /// No job is moved away from it by itself.
    pub stay: bool,
    /// It tells nobody how busy it is.
    pub quiet: bool,
    /// How fast its processors are to be taken for; as measured, if `None`.
    pub speed: Option<Speed>,
}

/// A change of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To whom it lends itself.
    Lend(Lending),
    /// Whether no job is moved away from it by itself.
    Stay(bool),
    /// Whether it tells nobody how busy it is.
    Quiet(bool),
    /// How fast its processors are to be taken for; `None`: they are to be measured, now.
    Speed(Option<Speed>),
}

// === impl Wishes ===

impl Wishes {
    /// Changed so.
    #[must_use]
    pub const fn with(mut self, wish: Wish) -> Self {
        match wish {
            Wish::Lend(lending) => self.lending = lending,
            Wish::Stay(stay) => self.stay = stay,
            Wish::Quiet(quiet) => self.quiet = quiet,
            Wish::Speed(speed) => self.speed = speed,
        }
        self
    }

    /// What of it others see, of a node that is idle or not.
    pub fn flags(&self, idle: bool) -> NodeFlags {
        let mut flags = NodeFlags::empty();
        flags.set(NodeFlags::STAY, self.stay);
        flags.set(NodeFlags::QUIET, self.quiet);
        flags.set(NodeFlags::WHEN_IDLE, self.lending == Lending::WhenIdle);
        let busy = self.lending == Lending::WhenIdle && !idle;
        flags.set(NodeFlags::BLOCKED, busy || self.lending == Lending::Never);
        flags.set(NodeFlags::GUESTS_GO, busy);
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_node_keeps_its_guests_and_a_busy_one_sends_them_away() {
        let never = Wishes::default().with(Wish::Lend(Lending::Never));
        assert_eq!(never.flags(true), NodeFlags::BLOCKED);
        let lent = Wishes::default().with(Wish::Lend(Lending::WhenIdle)).with(Wish::Stay(true));
        assert_eq!(lent.flags(true), NodeFlags::WHEN_IDLE | NodeFlags::STAY);
        let busy = NodeFlags::WHEN_IDLE | NodeFlags::BLOCKED | NodeFlags::GUESTS_GO;
        assert_eq!(lent.flags(false), busy | NodeFlags::STAY);
        assert_eq!(lent.with(Wish::Lend(Lending::Always)).flags(false), NodeFlags::STAY);
        assert_eq!(Wishes::default().flags(false), NodeFlags::empty());
    }

    #[test]
    fn what_an_older_daemon_kept_is_read() {
        let kept: Wishes = serde_json::from_str(r#"{"lending":"when-idle"}"#).unwrap();
        assert_eq!(kept, Wishes::default().with(Wish::Lend(Lending::WhenIdle)));
    }
}
