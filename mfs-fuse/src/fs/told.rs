//! `Told`: whether a home was told of an open that was made here, and by which number it knows it.
//!
//! Who tells it, and who learns that the open is over, may come in any order and at once: whatever the home has
//! opened in the end, somebody is told to have it closed. Each attempt has a number of its own, as one of which
//! nothing was heard is ended by its number, perhaps some time later.
//!
//! Lock order: `Told::number` is held while the home is told; `Told::stage` is a leaf.

use mfs::sync::Mutex;
use mfs::types::{Errno, OpenId};
use tokio::sync::OnceCell;

/// What became of one open.
#[derive(Debug, Default)]
pub(super) struct Told {
    number: OnceCell<OpenId>,
    stage: Mutex<Stage>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stage {
    /// Somebody tells the home, or has.
    is_begun: bool,
    is_over: bool,
}

// === impl Told ===

impl Told {
    /// By which number the home knows it, if it does.
    pub(super) fn number(&self) -> Option<OpenId> {
        self.number.get().copied()
    }

    /// Has the home told by `tell`, which says by which number, unless it knows already.
    ///
    /// # Errors
    /// Those of `tell`; EBADF if the open is over.
    pub(super) async fn tell(
        &self,
        tell: impl AsyncFnOnce() -> Result<OpenId, Errno>,
    ) -> Result<OpenId, Errno> {
        let telling = async || if self.begin() { tell().await } else { Err(Errno::BadF) };
        self.number.get_or_try_init(telling).await.copied()
    }

    /// The open is over, and the home is told of it no more. Whether it may know: then [`Self::known`] says.
    #[must_use = "the home may have to be told"]
    pub(super) fn end(&self) -> bool {
        let mut stage = self.stage.lock();
        stage.is_over = true;
        stage.is_begun
    }

    /// By which number the home knows an open that is over, once whoever is telling it has.
    pub(super) async fn known(&self) -> Option<OpenId> {
        self.number.get_or_try_init(async || Err(())).await.ok().copied()
    }

    fn begin(&self) -> bool {
        let mut stage = self.stage.lock();
        stage.is_begun |= !stage.is_over;
        !stage.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a home has open, and how often it was asked to.
    #[derive(Debug, Default)]
    struct Home {
        open: BTreeSet<OpenId>,
        asked: u64,
    }

    /// Gives way once, to whoever is next.
    async fn give_way() {
        let mut has = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut has, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Tells the home, which opens it and answers, each at another time. `is_lost`: the first answer is not heard.
    async fn tell(told: &Told, home: &RefCell<Home>, is_lost: bool) {
        let telling = async || {
            let number = {
                let mut home = home.borrow_mut();
                home.asked += 1;
                OpenId::new(home.asked).unwrap()
            };
            give_way().await;
            assert!(home.borrow_mut().open.insert(number), "{number} is used twice");
            give_way().await;
            if is_lost && number == OpenId::FIRST { Err(Errno::TimedOut) } else { Ok(number) }
        };
        let _ = told.tell(telling).await; // it is over, or the next one tells
        give_way().await;
    }

    async fn end(told: &Told, home: &RefCell<Home>) {
        give_way().await;
        if told.end()
            && let Some(number) = told.known().await
        {
            give_way().await;
            assert!(home.borrow_mut().open.remove(&number), "{number} is closed twice");
        }
    }

    /// Plays one order: who is next at each step. `None` if there are too few choices in it.
    fn play(order: u32, steps: u32, is_lost: bool) -> (BTreeSet<OpenId>, bool) {
        let (told, home) = (Told::default(), RefCell::new(Home::default()));
        let mut hands: [Pin<Box<dyn Future<Output = ()> + '_>>; 3] = [
            Box::pin(tell(&told, &home, is_lost)),
            Box::pin(tell(&told, &home, is_lost)),
            Box::pin(end(&told, &home)),
        ];
        let mut is_done = [false; 3];
        let mut poll = |hand: usize, is_done: &mut [bool; 3]| {
            let mut context = Context::from_waker(Waker::noop());
            if !is_done[hand] && hands[hand].as_mut().poll(&mut context).is_ready() {
                is_done[hand] = true;
            }
        };
        let mut rest = order;
        for _ in 0..steps {
            poll((rest % 3) as usize, &mut is_done);
            rest /= 3;
        }
        for _ in 0..20 {
            (0..3).for_each(|hand| poll(hand, &mut is_done));
        }
        drop(hands);
        (home.into_inner().open, is_done == [true; 3])
    }

    #[test]
    fn whatever_comes_first_nothing_stays_open_at_the_home() {
        const STEPS: u32 = 9;
        for order in 0..3_u32.pow(STEPS) {
            assert_eq!(play(order, STEPS, false), (BTreeSet::new(), true), "order {order}");
        }
    }

    #[test]
    fn what_nothing_was_heard_of_is_not_used_again() {
        const STEPS: u32 = 9;
        for order in 0..3_u32.pow(STEPS) {
            let (mut open, is_done) = play(order, STEPS, true);
            // That one its session ends, which knows that its answer was not heard.
            open.remove(&OpenId::FIRST);
            assert_eq!((open, is_done), (BTreeSet::new(), true), "order {order}");
        }
    }
}
