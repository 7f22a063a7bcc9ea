//! Membership, loads and balancing in virtual time: the product's own code, thousands of nodes, one thread, one seed.
//!
//! `SIM_SEED=n` runs with another seed than 1, `SIM_SEEDS=n` with the seeds 1 to n; `SIM_NODES=n` gives the tests
//! that are named for any number of nodes another size than 30.

mod balance;
mod cluster;
mod detection;
mod hostile;
mod loads;
mod schedule;
mod trouble;
mod world;

/// The seeds to run with.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(last)) => 1..=last,
        (None, None) => 1..=1,
    }
}

/// How many nodes the tests for any number of them have.
fn size() -> usize {
    std::env::var("SIM_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}
