//! The instruments that metrics are made of: counters, gauges and families of either by one label.
//!
//! All are static atomics with relaxed ordering: an update costs a few nanoseconds and takes no lock.
//! Figures read at the same time may therefore disagree by what is under way.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::Value;
use crate::types::op::Operation;

/// What is said of a metric besides its figure.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its name, as Prometheus wants them: `mfs_` first, the unit last, counters end in `_total`.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// What it counts, in a sentence or two.
    pub meaning: &'static str,
    /// What users may rely on.
    pub stability: Stability,
    /// Which processes keep it.
    pub keeper: Keeper,
    /// The label of a family and its values; none for a single figure.
    pub label: Option<(&'static str, &'static [&'static str])>,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// What one of a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things counted; the name says which.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// What users may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Name and meaning stay within a major version.
    Stable,
    /// May change in any version; the changelog says so.
    Experimental,
}

/// Which process keeps a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The daemon of a node.
    Daemon,
    /// A mount.
    Mount,
    /// Each of both, for itself.
    Both,
}

/// Anything that is declared in [`super::metrics`].
pub trait Metric: Sync {
    /// What is said of it.
    fn definition(&self) -> &Definition;

    /// Its figure now.
    fn read(&self) -> Value;
}

/// A figure that only grows.
#[derive(Debug)]
pub struct Counter {
    definition: Definition,
    value: AtomicI64,
}

/// A figure that goes up and down.
#[derive(Debug)]
pub struct Gauge {
    definition: Definition,
    value: AtomicI64,
}

/// One gauge's share, held by whatever is counted; dropping it gives the share back.
#[derive(Debug)]
#[must_use = "what is counted ends when this is dropped"]
pub struct Held(&'static Gauge);

/// Figures by the values of one label, which are known beforehand; updated by the value's position.
#[derive(Debug)]
pub struct Family<const N: usize> {
    definition: Definition,
    values: [AtomicI64; N],
}

/// Counters by operation; updated by [`Operation::index`].
pub type PerOperation = Family<{ Operation::NAMES.len() }>;

// === impl Counter ===

impl Counter {
    pub(super) const fn new(definition: Definition) -> Self {
        Self { definition, value: AtomicI64::new(0) }
    }

    /// One more.
    pub fn add_one(&self) {
        self.value.fetch_add(1, Relaxed);
    }

    /// So many more; for bytes and the like.
    pub fn add(&self, amount: u64) {
        self.value.fetch_add(i64::try_from(amount).unwrap_or(0), Relaxed);
    }

    /// The figure now.
    pub fn value(&self) -> i64 {
        self.value.load(Relaxed)
    }
}

impl Metric for Counter {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn read(&self) -> Value {
        Value::Single(self.value())
    }
}

// === impl Gauge ===

impl Gauge {
    pub(super) const fn new(definition: Definition) -> Self {
        Self { definition, value: AtomicI64::new(0) }
    }

    /// Sets the figure.
    pub fn set(&self, value: i64) {
        self.value.store(value, Relaxed);
    }

    /// One more, until the answer is dropped.
    pub fn hold(&'static self) -> Held {
        self.value.fetch_add(1, Relaxed);
        Held(self)
    }

    /// The figure now.
    pub fn value(&self) -> i64 {
        self.value.load(Relaxed)
    }
}

impl Metric for Gauge {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn read(&self) -> Value {
        Value::Single(self.value())
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        self.0.value.fetch_sub(1, Relaxed);
    }
}

// === impl Family ===

impl<const N: usize> Family<N> {
    pub(super) const fn new(definition: Definition) -> Self {
        Self { definition, values: [const { AtomicI64::new(0) }; N] }
    }

    /// One more of the label's value at this position; a position beyond the last counts nothing.
    pub fn add_one(&self, position: usize) {
        if let Some(value) = self.values.get(position) {
            value.fetch_add(1, Relaxed);
        }
    }

    /// Sets the figure of the label's value at this position; one beyond the last sets nothing.
    pub fn set(&self, position: usize, figure: i64) {
        if let Some(value) = self.values.get(position) {
            value.store(figure, Relaxed);
        }
    }

    /// The figure of the label's value at this position; 0 beyond the last.
    pub fn value(&self, position: usize) -> i64 {
        self.values.get(position).map_or(0, |value| value.load(Relaxed))
    }
}

impl PerOperation {
    /// One more of this operation.
    pub fn count(&self, operation: &Operation) {
        self.add_one(operation.index());
    }
}

impl<const N: usize> Metric for Family<N> {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Values of the label that never occurred are left out, so that a snapshot is short.
    fn read(&self) -> Value {
        let names = self.definition.label.map_or(&[][..], |(_, names)| names);
        let figures =
            names.iter().zip(&self.values).map(|(name, value)| (*name, value.load(Relaxed)));
        Value::ByLabel(figures.filter(|(_, v)| *v != 0).map(|(n, v)| (n.to_owned(), v)).collect())
    }
}
