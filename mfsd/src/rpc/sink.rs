//! `Sink`: who gets the answer to a request, and what is done about it when there is one.

use std::sync::Arc;

use mfs::types::{Leases, OpenId, Slot};
use mfs::wire::Failure;

use super::run::{Answer, Responder, Run};
use super::session::Session;
use super::tree::Tree;

/// Who gets the answer.
pub(super) struct Sink {
    pub(super) to: Recipient,
    /// The number under which a file is being opened, and the run of it.
    pub(super) opening: Option<(OpenId, Arc<Run>)>,
}

pub(super) enum Recipient {
    /// The sender of a request that may be repeated.
    Sender(Responder),
    /// All who sent the once-only request of this slot.
    Slot(Slot, Arc<Run>),
    /// All who opened the number.
    Opening,
}

/// Whether an operation was executed; if not it may come again under its old sequence number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Executed {
    Yes,
    No,
}

// === impl Sink ===

impl Sink {
    /// Gives the answer to all who are to have it, and the leases that were granted with it.
    pub(super) fn finish<T: Tree>(
        self,
        session: &Session<T>,
        answer: Answer,
        leases: Leases,
        executed: Executed,
    ) {
        if let Some((id, _)) = &self.opening
            && answer.is_err()
        {
            session.opens.lock().give_up(*id);
        }
        match self.to {
            // Nothing is being opened then: `enter` made it a recipient of the open's run.
            Recipient::Sender(responder) => return responder.send(answer, leases),
            Recipient::Slot(slot, run) => {
                // What the protocol refused was not executed either.
                if executed == Executed::No || matches!(answer, Err(Failure::Protocol(_))) {
                    session.replies.lock().forget(slot, &run);
                }
                run.finish(answer.clone(), leases);
            }
            Recipient::Opening => {}
        }
        if let Some((_, run)) = self.opening {
            run.finish(answer, leases);
        }
    }
}
