//! `Mortal`: memory of a process that is killed before its n-th store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mfs::sync::Mutex;

use super::Memory;

/// Words, and how many are yet stored.
#[derive(Clone)]
pub(in crate::rpc) struct Mortal {
    words: Arc<Mutex<Vec<u64>>>,
    left: Arc<AtomicUsize>,
}

// === impl Mortal ===

impl Mortal {
    pub(in crate::rpc) fn new(words: Vec<u64>, stores: usize) -> Self {
        Self { words: Arc::new(Mutex::new(words)), left: Arc::new(AtomicUsize::new(stores)) }
    }

    /// What the next daemon finds.
    pub(in crate::rpc) fn words(&self) -> Vec<u64> {
        self.words.lock().clone()
    }

    /// How many stores are left to it; 0 when it was killed.
    pub(in crate::rpc) fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Has it killed after so many more.
    pub(in crate::rpc) fn kill_after(&self, stores: usize) {
        self.left.store(stores, Ordering::Release);
    }
}

impl Memory for Mortal {
    fn set(&self, at: usize, word: u64) {
        let left = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_ok() {
            self.words.lock()[at] = word;
        }
    }

    fn get(&self, at: usize) -> u64 {
        self.words.lock()[at]
    }
}
