//! Renewals: a session that holds leases says that it lives when it has nothing else to say.

use std::time::Duration;

use super::{Action, Lane, Session};
use crate::wire::features;

/// A renewal is due when nothing was sent for this part of the term.
const PART: u32 = 5;

// === impl Session ===

impl Session {
    /// When a renewal is due if something is held on lease, by the clock of leases; `None` while there is
    /// nobody to send one to, or no leases are granted.
    pub fn renewal_due(&self) -> Option<Duration> {
        let leasing = self.welcome().is_some_and(|w| w.features & features::LEASES != 0);
        (leasing && self.is_up(Lane::Control)).then(|| self.last_sent + self.renewal_interval())
    }

    /// Between two renewals.
    pub fn renewal_interval(&self) -> Duration {
        self.welcome().map_or(Duration::ZERO, |welcome| welcome.lease_term) / PART
    }

    pub(super) fn renew(&mut self, out: &mut Vec<Action>) {
        if self.renewal_due().is_some_and(|due| due <= self.boot) {
            let id = self.ids.draw();
            self.renewals.insert(id, self.boot);
            self.last_sent = self.boot;
            out.push(Action::Renew(id));
        }
    }
}
