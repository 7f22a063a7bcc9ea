//! Callers come, and give up; the node goes away.

use std::sync::Arc;
use std::time::Instant;

use super::nature::{self, Class};
use super::requests::{Item, Role};
use super::{Action, Ask, Lane, Session, Submission};
use crate::client::Answered;
use crate::net::Deadline;
use crate::types::op::{Operation, Outcome};
use crate::types::{Caller, Errno, RequestId};

// === impl Session ===

impl Session {
    pub(super) fn submit(&mut self, now: Instant, submission: Submission, out: &mut Vec<Action>) {
        let Submission { id, caller, ask, patience } = submission;
        let class = match &ask {
            Ask::Operation(operation) => {
                self.opens.note_request(operation);
                Class::of(operation)
            }
            Ask::Root => Class::Control,
        };
        self.requests.queue(id, Item::new(ask, caller, class, Role::Call { patience }));
        // A lock may be waited for as long as its caller likes: its time runs from the sending on.
        if let (Some(patience), false) = (patience, class == Class::LockWait) {
            self.requests.set_deadline(id, Deadline::after(now, patience));
        }
        if let (Some(errno), Some(_)) = (self.away, patience) {
            self.give_up(id, out);
            out.push(Action::Answer(id, Answered::without(Err(errno))));
        }
    }

    /// Nobody waits for this request any more.
    pub(super) fn give_up(&mut self, id: RequestId, out: &mut Vec<Action>) {
        self.requests.set_deadline(id, Deadline::NEVER);
        let Some(item) = self.requests.get_mut(id) else { return };
        if !matches!(item.role, Role::Call { .. }) {
            return;
        }
        let Ask::Operation(operation) = &item.ask else {
            self.requests.remove(id);
            return;
        };
        let lane = item.class.lane();
        if nature::must_happen(operation) {
            item.role = Role::Cleanup;
        } else if item.sent.is_none() {
            self.requests.remove(id);
        } else {
            item.role = Role::GivenUp;
            if self.is_up(lane) {
                self.cancel_wait(id, out);
            } else {
                self.settle_given_up(id);
            }
        }
    }

    /// A request was not answered in time.
    pub(super) fn time_out(&mut self, id: RequestId, out: &mut Vec<Action>) {
        match self.requests.get(id).map(|item| item.role) {
            // Its slot, if it has one, stays taken until the session ends: nobody knows what becomes of it.
            Some(Role::Reclaim(open)) => {
                let item = self.requests.remove(id);
                if let Some(Ask::Operation(operation)) = item.map(|item| item.ask) {
                    self.reclaimed(open, &operation, Err(Errno::TimedOut), out);
                }
            }
            Some(Role::Call { .. }) => {
                let answer = self.unanswered(id, Errno::TimedOut);
                self.give_up(id, out);
                out.push(Action::Answer(id, answer));
            }
            Some(Role::GivenUp | Role::Cleanup) | None => {}
        }
    }

    /// Tells the server that nobody waits for this lock any more.
    pub(super) fn cancel_wait(&self, id: RequestId, out: &mut Vec<Action>) {
        let Some(item) = self.requests.get(id) else { return };
        if item.class == Class::LockWait && item.role == Role::GivenUp {
            out.push(Action::Cancel(item.class.lane(), id));
        }
    }

    /// A request that was given up was cut with its connection. One that does no harm is sent again, since
    /// only its answer tells what is to be undone. Any other is not: what its caller was told is an error,
    /// and it must not be done some time later; what it may have left is undone.
    fn settle_given_up(&mut self, id: RequestId) {
        let harmless = |ask: &Ask| match ask {
            Ask::Operation(operation) => nature::ends_harmlessly(operation),
            Ask::Root => false,
        };
        if self.requests.get(id).is_none_or(|item| harmless(&item.ask)) {
            return;
        }
        let Some(item) = self.requests.remove(id) else { return };
        self.give_back_slot(&item);
        let Ask::Operation(operation) = &item.ask else { return };
        if let Some(undo) = nature::undo_of(operation) {
            self.clean_up(item.caller, undo);
        }
    }

    /// Queues what nobody waits for.
    pub(super) fn clean_up(&mut self, caller: Arc<Caller>, operation: Operation) {
        let item = Item::new(Ask::Operation(operation), caller, Class::Control, Role::Cleanup);
        self.requests.queue(self.ids.draw(), item);
    }

    pub(super) fn give_back_slot(&mut self, item: &Item) {
        if let Some((slot, _)) = item.sent.and_then(|sent| sent.once) {
            self.slots.give_back(slot);
        }
    }

    pub(super) fn down(&mut self, lane: Lane) {
        self.set_up(lane, false);
        if lane == Lane::Control {
            self.renewals.clear();
        }
        for id in self.requests.flying_on(lane) {
            match self.requests.get(id).map(|item| item.role) {
                Some(Role::GivenUp) => self.settle_given_up(id),
                // The server's time to open again runs only while it could answer.
                Some(Role::Reclaim(_)) => self.requests.set_deadline(id, Deadline::NEVER),
                Some(Role::Call { .. } | Role::Cleanup) | None => {}
            }
        }
    }

    pub(super) fn go_away(&mut self, errno: Errno, out: &mut Vec<Action>) {
        self.away = Some(errno);
        for id in self.requests.ids() {
            let role = self.requests.get(id).map(|item| item.role);
            if let Some(Role::Call { patience: Some(_) }) = role {
                let answer = self.unanswered(id, errno);
                self.give_up(id, out);
                out.push(Action::Answer(id, answer));
            }
        }
    }

    /// What the caller of a request is told that has no reply.
    fn unanswered(&self, id: RequestId, errno: Errno) -> Answered<Outcome> {
        match self.requests.get(id).and_then(|item| item.sent) {
            Some(_) => Answered::unknown(errno),
            None => Answered::without(Err(errno)),
        }
    }
}
