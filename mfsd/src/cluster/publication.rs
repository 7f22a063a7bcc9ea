//! `Publication`: the view of the members as the daemon watches it, and as it is kept on the disk.
//!
//! Not here: what the view is (`mfs::membership`), and the form in which it is kept (`memory`).

use std::time::{Duration, Instant};

use mfs::clock;
use mfs::membership::{MemberState, View};
use mfs::telemetry::metrics;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::memory::Memory;

/// Least time between two views: a burst of news makes one.
const PUBLISH_GAP: Duration = Duration::from_millis(50);

/// Least time between two writes of the view to the disk.
const REMEMBER_GAP: Duration = Duration::from_secs(10);

/// What was published, and what is to be.
#[derive(Debug)]
pub(super) struct Publication {
    view: watch::Sender<View>,
    memory: Memory,
    changed: bool,
    published: Instant,
    remembered: Instant,
    /// The view is not on the disk as it is.
    unremembered: bool,
}

// === impl Publication ===

impl Publication {
    /// Publishes a first view; another follows soon.
    pub(super) fn new(view: View, memory: Memory) -> (Self, watch::Receiver<View>) {
        count(&view);
        let began = clock::now();
        let (view, watched) = watch::channel(view);
        let publication = Self {
            view,
            memory,
            changed: true,
            published: began,
            remembered: began,
            unremembered: false,
        };
        (publication, watched)
    }

    /// The view may be another.
    pub(super) const fn change(&mut self) {
        self.changed = true;
    }

    /// When a change is to be published.
    pub(super) fn due(&self) -> Option<Instant> {
        self.changed.then(|| self.published + PUBLISH_GAP)
    }

    /// The view as it is published.
    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Publishes the view if it is another and the time has come; writes it to the disk, on a thread of
    /// the daemon that may block, likewise.
    pub(super) fn publish(&mut self, view: impl FnOnce() -> View, daemon: &Handle) {
        let now = clock::now();
        if self.due().is_some_and(|due| now >= due) {
            self.changed = false;
            self.published = now;
            let view = view();
            if *self.view.borrow() != view {
                count(&view);
                self.unremembered = true;
                self.view.send_replace(view);
            }
        }
        if self.unremembered && now >= self.remembered + REMEMBER_GAP {
            self.unremembered = false;
            self.remembered = now;
            let (memory, view) = (self.memory.clone(), self.view.borrow().clone());
            daemon.spawn_blocking(move || {
                if let Err(error) = memory.remember_view(view.members()) {
                    tracing::warn!(%error, "the members as seen now could not be written to the disk");
                }
            });
        }
    }

    /// Writes the view to the disk, for the last time.
    pub(super) fn end(&self) {
        if let Err(error) = self.memory.remember_view(self.view.borrow().members()) {
            tracing::warn!(%error, "the members as seen last could not be written to the disk");
        }
    }
}

fn count(view: &View) {
    let in_state = |state| view.members().iter().filter(|member| member.state == state).count();
    for (at, state) in
        [MemberState::Alive, MemberState::Suspect, MemberState::Dead].into_iter().enumerate()
    {
        metrics::MEMBERS.set(at, i64::try_from(in_state(state)).unwrap_or(i64::MAX));
    }
}
