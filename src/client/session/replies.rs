//! Replies: what they mean for the session, and what the caller is told.

use super::nature;
use super::requests::Role;
use super::{Action, Ask, Lane, Note, Session};
use crate::client::Answered;
use crate::types::op::{Operation, Outcome};
use crate::types::{Errno, Leases, RequestId};
use crate::wire::{Failure, ProtocolCode, Refusal, Reply};

// === impl Session ===

impl Session {
    pub(super) fn reply(&mut self, reply: Reply, out: &mut Vec<Action>) {
        self.check_verifier(reply.verifier, out);
        // Unknown: the request was settled when its connection broke. Queued: likewise.
        let Some(sent) = self.requests.get(reply.id).and_then(|item| item.sent) else {
            if reply.result.is_ok()
                && let Some(sent) = self.renewals.remove(&reply.id)
            {
                out.push(Action::Extended(sent));
            }
            return;
        };
        // A server that refuses may not know the session any more.
        if !matches!(reply.result, Err(Failure::Protocol(_))) {
            out.push(Action::Extended(sent.at));
        }
        match reply.result {
            Ok(outcome) => self.settle(reply.id, Ok(outcome), reply.leases, out),
            Err(Failure::File(errno)) => self.settle(reply.id, Err(errno), reply.leases, out),
            Err(Failure::Protocol(refusal)) => self.refused(reply.id, refusal, out),
        }
    }

    /// The request is over, and its slot free.
    pub(super) fn settle(
        &mut self,
        id: RequestId,
        result: Result<Outcome, Errno>,
        leases: Leases,
        out: &mut Vec<Action>,
    ) {
        let Some(item) = self.requests.remove(id) else { return };
        self.give_back_slot(&item);
        let Ask::Operation(operation) = &item.ask else { return };
        match item.role {
            Role::Call { .. } => {
                let sent_at = item.sent.map_or(0, |sent| sent.clock);
                let mut result = result;
                if let Ok(outcome) = &result {
                    self.opens.note(&item.caller, operation, outcome, sent_at);
                }
                if result.is_ok() && self.must_report_loss(operation) {
                    result = Err(Errno::Io);
                }
                let answer = Answered { result, leases, is_final: true };
                out.push(Action::Answer(id, answer));
            }
            Role::GivenUp => {
                if let (Ok(_), Some(undo)) = (&result, nature::undo_of(operation)) {
                    self.clean_up(item.caller, undo);
                }
            }
            Role::Cleanup => {}
            Role::Reclaim(open) => self.reclaimed(open, operation, result.map(drop), out),
        }
    }

    /// The protocol refused a request: nothing of it was done.
    pub(super) fn refused(&mut self, id: RequestId, refusal: Refusal, out: &mut Vec<Action>) {
        let Some(item) = self.requests.get_mut(id) else { return };
        let Ask::Operation(operation) = &item.ask else { return };
        let name = operation.name();
        match refusal.code {
            ProtocolCode::UnknownOpen if nature::must_happen(operation) => {
                self.settle(id, Ok(Outcome::Done(())), Leases::empty(), out);
            }
            ProtocolCode::UnknownOpen => {
                let first = !std::mem::replace(&mut item.reopened, true);
                let opens: Vec<_> = nature::opens_of(operation).collect();
                let known = opens.iter().any(|open| self.opens.state(*open).is_some());
                if first && known {
                    self.back_to_the_queue(id);
                    opens.into_iter().for_each(|open| self.reopen(open));
                } else {
                    self.settle(id, Err(Errno::BadF), Leases::empty(), out);
                }
            }
            ProtocolCode::UnknownSession | ProtocolCode::StaleEpoch | ProtocolCode::Stopping => {
                self.back_to_the_queue(id);
                // The next greeting tells what session there is.
                for lane in [Lane::Bulk, Lane::Control] {
                    if self.is_up(lane) {
                        out.push(Action::Close(lane));
                        self.down(lane);
                    }
                }
            }
            ProtocolCode::OutcomeUnknown => {
                out.push(Action::Note(Note::Unknown(name)));
                self.settle(id, Err(Errno::Io), Leases::empty(), out);
            }
            code => {
                out.push(Action::Note(Note::Refused(name, refusal)));
                self.settle(id, Err(errno_of(code)), Leases::empty(), out);
            }
        }
    }

    /// A request that was sent and not executed queues again, or ends if nobody waits for it.
    pub(super) fn back_to_the_queue(&mut self, id: RequestId) {
        let Some(item) = self.requests.get(id) else { return };
        if item.role == Role::GivenUp {
            if let Some(item) = self.requests.remove(id) {
                self.give_back_slot(&item);
            }
            return;
        }
        if let Some((slot, _)) = item.sent.and_then(|sent| sent.once) {
            self.slots.give_back(slot);
        }
        // What was never executed under this name has none; of an earlier one that is not known.
        let session = self.welcome().map(|welcome| welcome.session);
        if let Some(item) = self.requests.get_mut(id) {
            item.first = item.first.filter(|first| Some(first.session) != session);
        }
        self.requests.requeue(id);
    }

    /// Whether the answer to a sync or a close must say that writes were lost.
    pub(super) fn must_report_loss(&mut self, operation: &Operation) -> bool {
        match operation {
            Operation::Sync(o) => self.opens.take_writes_lost(o.open),
            Operation::Flush(o) => self.opens.take_writes_lost(o.open),
            _ => false,
        }
    }
}

/// What a caller is told of a refusal that nothing can be done about.
const fn errno_of(code: ProtocolCode) -> Errno {
    match code {
        ProtocolCode::UnknownOperation => Errno::OpNotSupp,
        ProtocolCode::UnsupportedVersion => Errno::Proto,
        ProtocolCode::NotAuthorised => Errno::Perm,
        ProtocolCode::Limit => Errno::NFile,
        ProtocolCode::UnknownExport => Errno::NoDev,
        ProtocolCode::UnknownOpen => Errno::BadF,
        ProtocolCode::Malformed
        | ProtocolCode::BadSequence
        | ProtocolCode::UnknownSession
        | ProtocolCode::StaleEpoch
        | ProtocolCode::Stopping
        | ProtocolCode::OutcomeUnknown => Errno::Io,
    }
}
