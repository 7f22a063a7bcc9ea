//! Sending: what may go now, in which order, under which slot.

use std::sync::Arc;
use std::time::Instant;

use super::nature::{self, Class};
use super::opens::OpenState;
use super::requests::{Role, Sent};
use super::{Action, Ask, LOCK_WAIT, RECLAIM_PATIENCE, RELOCK_WAIT, Session, State};
use crate::client::Answered;
use crate::net::Deadline;
use crate::types::op::{Operation, Outcome};
use crate::types::{Caller, Epoch, RequestId};
use crate::wire::{Origin, Request};

// === impl Session ===

impl Session {
    /// Sends what may be sent.
    pub(super) fn pump(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let State::Reclaiming(welcome) = &self.state
            && !self.requests.has(Class::Reclaim)
        {
            self.state = State::Ready(Arc::clone(welcome));
        }
        let classes: &[Class] = match &self.state {
            State::New => return,
            State::Reclaiming(_) => &[Class::Reclaim],
            State::Ready(_) => &Class::ALL,
        };
        for &class in classes {
            if self.is_up(class.lane()) {
                self.pump_class(now, class, out);
            }
        }
    }

    pub(super) fn pump_class(&mut self, now: Instant, class: Class, out: &mut Vec<Action>) {
        let mut after = None;
        while self.requests.in_flight(class) < self.limit(class) {
            let Some(id) = self.requests.next_queued(class, after) else { return };
            after = Some(id);
            let Some(item) = self.requests.get(id) else { return };
            let (Ask::Operation(operation), Some(welcome)) = (&item.ask, self.welcome()) else {
                let root = self.welcome().map(|welcome| welcome.root.clone());
                self.requests.remove(id);
                let root = root.map(|root| Answered::without(Ok(Outcome::Entry(root))));
                out.extend(root.map(|root| Action::Answer(id, root)));
                continue;
            };
            let mut needed = nature::opens_of(operation).filter_map(|open| self.opens.state(open));
            if class != Class::Reclaim {
                match needed.find(|state| *state != OpenState::Live) {
                    Some(OpenState::Reopening) => continue,
                    Some(OpenState::Lost(errno)) => {
                        if let Role::Call { .. } = item.role {
                            out.push(Action::Answer(id, Answered::without(Err(errno))));
                        }
                        self.requests.remove(id);
                        continue;
                    }
                    Some(OpenState::Live) | None => {}
                }
            }
            let epoch = welcome.epoch;
            let once = if operation.is_once_only() {
                match self.slots.take() {
                    Some(once) => Some(once),
                    None => return,
                }
            } else {
                None
            };
            let patience = match (class, item.role) {
                (Class::LockWait, Role::Call { patience: Some(patience) }) => {
                    Some(LOCK_WAIT + patience)
                }
                (_, Role::Reclaim(_)) => Some(RECLAIM_PATIENCE),
                _ => None,
            };
            if let Some(patience) = patience {
                self.requests.set_deadline(id, Deadline::after(now, patience));
            }
            let origin = self.welcome().zip(once).map(|(welcome, (slot, sequence))| Origin {
                session: welcome.session,
                slot,
                sequence,
            });
            if let Some(item) = self.requests.get_mut(id) {
                item.first = item.first.or(origin);
            }
            self.requests.mark_sent(id, Sent { once, clock: self.opens.clock(), at: self.boot });
            self.send(now, id, epoch, false, out);
        }
    }

    /// Sends a request, for the first time or again.
    pub(super) fn send(
        &mut self,
        now: Instant,
        id: RequestId,
        epoch: Epoch,
        again: bool,
        out: &mut Vec<Action>,
    ) {
        self.last_sent = self.boot;
        let Some(item) = self.requests.get(id) else { return };
        let (Ask::Operation(operation), Some(sent)) = (&item.ask, item.sent) else { return };
        let deadline = match (item.class, operation) {
            (Class::LockWait, _) => Some(LOCK_WAIT),
            (Class::Reclaim, Operation::SetLock(_)) => Some(RELOCK_WAIT),
            _ => item.deadline().remaining(now),
        };
        let session = self.welcome().map(|welcome| welcome.session);
        let earlier = |first: &Origin| Some(first.session) != session && self.knows_replies();
        let request = Request {
            id,
            once: sent.once,
            first: item.first.filter(earlier).map(Box::new),
            epoch,
            caller: Caller::clone(&item.caller),
            deadline,
            operation: operation.clone(),
        };
        out.push(Action::Send { lane: item.class.lane(), request, again });
    }
}
