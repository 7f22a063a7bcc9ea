//! Connections that come up: the session goes on, or a new one begins and opens and locks are
//! established again.

use std::sync::Arc;
use std::time::Instant;

use super::nature::{self, Class};
use super::opens::OpenState;
use super::requests::{Item, Role};
use super::{Action, Ask, Lane, Note, RECLAIM_PATIENCE, Session, State};
use crate::client::Answered;
use crate::net::Deadline;
use crate::types::op::Operation;
use crate::types::{Errno, OpenId, RequestId};
use crate::wire::Welcome;

// === impl Session ===

impl Session {
    /// A connection is up.
    pub(super) fn up(
        &mut self,
        now: Instant,
        lane: Lane,
        welcome: Arc<Welcome>,
        out: &mut Vec<Action>,
    ) {
        let same = self.identity() == Some((welcome.session, welcome.epoch));
        match lane {
            _ if same => self.resume(now, lane, &welcome, out),
            Lane::Control => self.begin(welcome, out),
            // Only the control connection begins sessions, or two could each begin one. This session is
            // over, then: the control connection is about to notice, and is made to.
            Lane::Bulk => {
                out.push(Action::Close(Lane::Bulk));
                if self.is_up(Lane::Control) {
                    out.push(Action::Close(Lane::Control));
                    self.down(Lane::Control);
                }
            }
        }
    }

    /// The session goes on: what was not answered over the lane is sent again, as it was.
    fn resume(&mut self, now: Instant, lane: Lane, welcome: &Welcome, out: &mut Vec<Action>) {
        self.set_up(lane, true);
        self.check_verifier(welcome.verifier, out);
        if lane == Lane::Control {
            out.push(Action::Note(Note::Resumed));
        }
        for id in self.requests.flying_on(lane) {
            if let Some(Role::Reclaim(_)) = self.requests.get(id).map(|item| item.role) {
                self.requests.set_deadline(id, Deadline::after(now, RECLAIM_PATIENCE));
            }
            self.send(now, id, welcome.epoch, true, out);
            self.cancel_wait(id, out);
        }
    }

    /// A new session: what the old one held at the server is gone.
    fn begin(&mut self, welcome: Arc<Welcome>, out: &mut Vec<Action>) {
        if self.is_up(Lane::Bulk) {
            out.push(Action::Close(Lane::Bulk));
            self.set_up(Lane::Bulk, false);
        }
        self.set_up(Lane::Control, true);
        self.check_verifier(welcome.verifier, out);
        self.slots.reset(welcome.slots);
        self.state = State::Reclaiming(welcome);
        for id in self.requests.ids() {
            self.carry_over(id, out);
        }
        out.push(Action::Note(Note::Begun { opens: self.opens.len() }));
        for open in self.opens.ids() {
            if !matches!(self.opens.state(open), Some(OpenState::Lost(_))) {
                self.opens.set_state(open, OpenState::Live);
                self.reopen(open);
            }
        }
    }

    /// What becomes of a request of the old session in the new one.
    fn carry_over(&mut self, id: RequestId, out: &mut Vec<Action>) {
        let Some(item) = self.requests.get(id) else { return };
        match item.role {
            // What they would have ended, or established, has ended with the old session.
            Role::GivenUp | Role::Cleanup | Role::Reclaim(_) => {
                self.requests.remove(id);
            }
            Role::Call { .. } if item.sent.is_none() => {}
            Role::Call { .. } => {
                let Ask::Operation(operation) = &item.ask else { return };
                let told = item.first.is_some() && self.knows_replies();
                if told || nature::may_repeat(operation, |open| self.opens.appends(open)) {
                    self.requests.requeue(id);
                } else {
                    out.push(Action::Note(Note::Unknown(operation.name())));
                    out.push(Action::Answer(id, Answered::without(Err(Errno::Io))));
                    self.requests.remove(id);
                }
            }
        }
    }

    /// Asks the server to open a file again under the same id, unless that is under way.
    pub(super) fn reopen(&mut self, open: OpenId) {
        if self.opens.state(open) != Some(OpenState::Live) {
            return;
        }
        if let Some((caller, operation)) = self.opens.reopening(open) {
            self.opens.set_state(open, OpenState::Reopening);
            let item =
                Item::new(Ask::Operation(operation), caller, Class::Reclaim, Role::Reclaim(open));
            self.requests.queue(self.ids.draw(), item);
        }
    }

    /// An open, or a lock of it, is established again, or cannot be.
    pub(super) fn reclaimed(
        &mut self,
        open: OpenId,
        operation: &Operation,
        result: Result<(), Errno>,
        out: &mut Vec<Action>,
    ) {
        if self.opens.state(open).is_none() {
            return; // closed meanwhile; its Release waits behind
        }
        match result {
            Ok(()) => {
                out.push(Action::Note(Note::Reclaimed));
                if matches!(operation, Operation::Open(_)) {
                    self.opens.set_state(open, OpenState::Live);
                    for (caller, lock) in self.opens.relocking(open) {
                        let item = Item::new(
                            Ask::Operation(lock),
                            caller,
                            Class::Reclaim,
                            Role::Reclaim(open),
                        );
                        self.requests.queue(self.ids.draw(), item);
                    }
                }
            }
            Err(errno) => {
                // A program that believes it holds a lock must not go on when another holds it now.
                let errno = if errno == Errno::Stale { Errno::Stale } else { Errno::Io };
                self.opens.set_state(open, OpenState::Lost(errno));
                out.push(Action::Note(Note::NotReclaimed(open, errno)));
            }
        }
    }
}
