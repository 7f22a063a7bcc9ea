//! Notices that a node says nothing while something of it is awaited, and tells the membership, which
//! then asks the node itself: so a dead machine is known as such within 2 s of use.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reach::Loss;
use crate::membership::Contact;
use crate::net::ConnectError;
use crate::types::NodeId;

/// After how long without a byte a node is called silent.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often that is said again while it lasts.
const AGAIN: Duration = Duration::from_secs(1);

/// Told what connections say of nodes; must not block.
#[derive(Clone)]
pub struct OnContact(pub Arc<dyn Fn(NodeId, Contact) + Send + Sync>);

/// What one node's connections say.
#[derive(Debug)]
pub(super) struct Quiet {
    node: NodeId,
    on_contact: Option<OnContact>,
    awaiting: Option<Awaiting>,
    /// The last thing said, unless it was that the node answers.
    doubt: Option<Contact>,
}

/// Something is awaited.
#[derive(Debug)]
struct Awaiting {
    beats: u64,
    /// When nothing more may pass without the node being called silent.
    until: Instant,
}

// === impl OnContact ===

impl fmt::Debug for OnContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnContact")
    }
}

// === impl Quiet ===

impl Quiet {
    /// Of this node, nothing is awaited yet.
    pub(super) const fn new(node: NodeId, on_contact: Option<OnContact>) -> Self {
        Self { node, on_contact, awaiting: None, doubt: None }
    }

    /// Looks at `now` whether something is awaited, and what came; says when to look again.
    pub(super) fn look(&mut self, now: Instant, awaiting: bool, beats: u64) -> Option<Instant> {
        let before = self.awaiting.take();
        if !awaiting {
            if before.is_some_and(|before| before.beats != beats) {
                self.answered();
            }
            return None;
        }
        let until = match before {
            None => now + PATIENCE,
            Some(before) if before.beats != beats => {
                self.answered();
                now + PATIENCE
            }
            Some(before) if before.until <= now => {
                self.say(Contact::Silent);
                now + AGAIN
            }
            Some(before) => before.until,
        };
        self.awaiting = Some(Awaiting { beats, until });
        Some(until)
    }

    /// A connection ended, or could not be made.
    pub(super) fn note_loss(&mut self, now: Instant, loss: &Loss) {
        match loss {
            Loss::Connect(ConnectError::Refused(_)) => self.say(Contact::Refused),
            Loss::Connect(ConnectError::Silent(_)) | Loss::Silent => {
                self.say(Contact::Silent);
                if let Some(awaiting) = &mut self.awaiting {
                    awaiting.until = now + AGAIN;
                }
            }
            Loss::Connect(ConnectError::Unfinished(_) | ConnectError::Untrusted(_))
            | Loss::Refused(_)
            | Loss::Ended(_) => {}
        }
    }

    /// Whether the node is called silent at the moment.
    pub(super) fn is_silent(&self) -> bool {
        self.doubt == Some(Contact::Silent)
    }

    fn answered(&mut self) {
        if self.doubt.is_some() {
            self.say(Contact::Answered);
        }
    }

    fn say(&mut self, contact: Contact) {
        self.doubt = (contact != Contact::Answered).then_some(contact);
        if let Some(on_contact) = &self.on_contact {
            on_contact.0(self.node, contact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::sync::Mutex;

    fn quiet() -> (Quiet, Arc<Mutex<Vec<Contact>>>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&said);
        let on_contact = OnContact(Arc::new(move |_, contact| listener.lock().push(contact)));
        (Quiet::new(NodeId::from_digest([1; 32]), Some(on_contact)), said)
    }

    #[test]
    fn a_node_that_is_awaited_and_says_nothing_is_called_silent_until_it_answers() {
        let (mut quiet, said) = quiet();
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(quiet.look(at(0), false, 0), None);
        assert_eq!(quiet.look(at(0), true, 0), Some(at(500)));
        assert_eq!(quiet.look(at(400), true, 1), Some(at(900)), "a byte came");
        assert_eq!(quiet.look(at(899), true, 1), Some(at(900)));
        assert_eq!(*said.lock(), []);
        assert_eq!(quiet.look(at(900), true, 1), Some(at(1_900)));
        assert_eq!(quiet.look(at(1_900), true, 1), Some(at(2_900)));
        assert_eq!(*said.lock(), [Contact::Silent; 2]);
        quiet.look(at(2_000), false, 2);
        assert_eq!(said.lock()[2..], [Contact::Answered]);
    }

    #[test]
    fn a_refusal_is_told_and_an_end_is_not() {
        let (mut quiet, said) = quiet();
        let now = clock::now();
        quiet.note_loss(now, &Loss::Ended(String::new()));
        quiet.note_loss(now, &ConnectError::Refused(String::new()).into());
        quiet.note_loss(now, &Loss::Silent);
        assert_eq!(*said.lock(), [Contact::Refused, Contact::Silent]);
    }
}
