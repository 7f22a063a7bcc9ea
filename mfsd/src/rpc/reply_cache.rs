//! The last once-only request of each slot, so that one that comes again is not executed again.
//!
//! As NFSv4.1 does it (RFC 8881 section 2.10.6), with two differences: sequence numbers may leave gaps,
//! and a newer request may use a slot while an older one still runs, since a client may have given it up.

use std::sync::Arc;

use mfs::types::op::Operation;
use mfs::types::{Sequence, Slot};
use mfs::wire::{ProtocolCode, Refusal};

use super::run::Run;

/// The slots of one session. Memory is taken as slots are used.
#[derive(Debug)]
pub(super) struct ReplyCache {
    slots: Vec<Option<Last>>,
    limit: u32,
}

/// The last request of a slot.
#[derive(Debug)]
struct Last {
    sequence: Sequence,
    operation: usize,
    /// `None` where it was refused before it was executed: it may come again.
    run: Option<Arc<Run>>,
}

/// What to do with a once-only request.
#[derive(Debug)]
pub(super) enum Begun {
    /// Execute it, and finish this run.
    Execute(Arc<Run>),
    /// It was here before: join this run.
    Repeated(Arc<Run>),
}

// === impl ReplyCache ===

impl ReplyCache {
    pub(super) const fn new(limit: u32) -> Self {
        Self { slots: Vec::new(), limit }
    }

    /// Enters a request.
    ///
    /// # Errors
    /// `BadSequence` for a slot that does not exist, a number lower than the last one, or the last number
    /// with another operation.
    pub(super) fn begin(
        &mut self,
        slot: Slot,
        sequence: Sequence,
        operation: &Operation,
    ) -> Result<Begun, Refusal> {
        if slot.0 >= self.limit {
            return Err(refusal(format!(
                "slot {} does not exist: there are {}",
                slot.0, self.limit
            )));
        }
        let index = slot.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let place = &mut self.slots[index];
        if let Some(last) = place {
            if sequence < last.sequence {
                return Err(refusal(format!(
                    "sequence {sequence} of slot {} is over: the last one was {}",
                    slot.0, last.sequence
                )));
            }
            if sequence == last.sequence {
                if operation.index() != last.operation {
                    return Err(refusal(format!(
                        "sequence {sequence} of slot {} comes again as another operation ({})",
                        slot.0,
                        operation.name()
                    )));
                }
                if let Some(run) = &last.run {
                    return Ok(Begun::Repeated(Arc::clone(run)));
                }
            }
        }
        let run = Arc::new(Run::new());
        *place = Some(Last { sequence, operation: operation.index(), run: Some(Arc::clone(&run)) });
        Ok(Begun::Execute(run))
    }

    /// Says that `run` ended without having been executed: if its request comes again, it begins anew.
    pub(super) fn forget(&mut self, slot: Slot, run: &Arc<Run>) {
        let place = self.slots.get_mut(slot.0 as usize).and_then(Option::as_mut);
        if let Some(last) = place
            .filter(|last| last.run.as_ref().is_some_and(|remembered| Arc::ptr_eq(remembered, run)))
        {
            last.run = None;
        }
    }
}

fn refusal(message: String) -> Refusal {
    Refusal::new(ProtocolCode::BadSequence, message)
}

#[cfg(test)]
mod tests {
    use mfs::types::OpenId;
    use mfs::types::op::{Fallocate, Write};

    use super::*;

    fn write() -> Operation {
        Write {
            open: OpenId::FIRST,
            offset: 0,
            data: bytes::Bytes::new(),
            pages: false,
            known: None,
        }
        .into()
    }

    fn begin(cache: &mut ReplyCache, slot: u32, sequence: u64) -> Result<Begun, Refusal> {
        cache.begin(Slot(slot), Sequence::new(sequence).expect("not 0"), &write())
    }

    #[track_caller]
    fn executes(begun: Result<Begun, Refusal>) -> Arc<Run> {
        match begun {
            Ok(Begun::Execute(run)) => run,
            other => panic!("not executed: {other:?}"),
        }
    }

    #[test]
    fn a_repeat_joins_the_first_and_is_not_executed() {
        let mut cache = ReplyCache::new(4);
        let run = executes(begin(&mut cache, 3, 1));
        for _ in 0..2 {
            match begin(&mut cache, 3, 1) {
                Ok(Begun::Repeated(again)) => assert!(Arc::ptr_eq(&again, &run)),
                other => panic!("not a repeat: {other:?}"),
            }
            run.finish(Ok(mfs::types::op::Outcome::Done(())), mfs::types::Leases::empty());
        }
    }

    #[test]
    fn gaps_are_allowed_and_the_past_is_refused() {
        let mut cache = ReplyCache::new(4);
        executes(begin(&mut cache, 0, 1));
        executes(begin(&mut cache, 0, 5));
        for old in [1, 4] {
            let refusal = begin(&mut cache, 0, old).unwrap_err();
            assert_eq!(refusal.code, ProtocolCode::BadSequence);
        }
        executes(begin(&mut cache, 1, 1));
        assert_eq!(begin(&mut cache, 4, 1).unwrap_err().code, ProtocolCode::BadSequence);
    }

    #[test]
    fn what_was_not_executed_may_come_again() {
        let mut cache = ReplyCache::new(4);
        let first = executes(begin(&mut cache, 0, 1));
        cache.forget(Slot(0), &first);
        let second = executes(begin(&mut cache, 0, 1));
        cache.forget(Slot(0), &first); // too late: the slot is the second's
        assert!(matches!(begin(&mut cache, 0, 1), Ok(Begun::Repeated(_))));
        drop(second);
    }

    #[test]
    fn the_same_number_for_another_operation_is_refused() {
        let mut cache = ReplyCache::new(4);
        executes(begin(&mut cache, 0, 1));
        let other = Fallocate {
            open: OpenId::FIRST,
            mode: mfs::types::FallocateMode::empty(),
            offset: 0,
            length: 1,
        };
        let refusal = cache.begin(Slot(0), Sequence::FIRST, &other.into()).unwrap_err();
        assert_eq!(refusal.code, ProtocolCode::BadSequence);
    }
}
