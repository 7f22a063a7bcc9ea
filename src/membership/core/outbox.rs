//! `Outbox`: what the failure detector wants done, kept until it has returned.

use std::collections::VecDeque;
use std::time::Duration;

use foca::{Notification, OwnedNotification, Runtime, Timer};

use super::Endpoint;

/// Things that a queue keeps room for while it is empty. A member list that is learnt makes queues of as many
/// things as it has members, once; kept, their room would be most of what a node of a large cluster holds.
pub(super) const ROOM_KEPT: usize = 64;

/// What the failure detector wants done.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) sends: VecDeque<(Endpoint, Vec<u8>)>,
    pub(super) timers: VecDeque<(Duration, Timer<Endpoint>)>,
    pub(super) notes: VecDeque<OwnedNotification<Endpoint>>,
}

// === impl Outbox ===

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.timers.is_empty() && self.notes.is_empty()
    }

    /// Gives back the room of a rush that is over.
    pub(super) fn shrink(&mut self) {
        self.sends.shrink_to(ROOM_KEPT);
        self.timers.shrink_to(ROOM_KEPT);
        self.notes.shrink_to(ROOM_KEPT);
    }
}

impl Runtime<Endpoint> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Endpoint>) {
        self.notes.push_back(notification.to_owned());
    }

    fn send_to(&mut self, to: Endpoint, data: &[u8]) {
        self.sends.push_back((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Endpoint>, after: Duration) {
        self.timers.push_back((after, event));
    }
}
