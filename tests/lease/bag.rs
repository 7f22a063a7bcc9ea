//! `Bag`: messages under way, which have no order.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Things of which it does not matter which was put in first.
#[derive(Debug, Clone)]
pub(crate) struct Bag<T>(Vec<T>);

// === impl Bag ===

impl<T> Default for Bag<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Hash> Hash for Bag<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let sum = self.0.iter().fold(0_u64, |sum, thing| {
            let mut one = DefaultHasher::new();
            thing.hash(&mut one);
            sum.wrapping_add(one.finish())
        });
        state.write_u64(sum);
        state.write_usize(self.0.len());
    }
}

impl<T> Bag<T> {
    pub(crate) fn put(&mut self, thing: T) {
        self.0.push(thing);
    }

    pub(crate) fn take(&mut self, at: usize) -> T {
        self.0.swap_remove(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn keep(&mut self, wanted: impl FnMut(&T) -> bool) {
        self.0.retain(wanted);
    }
}
