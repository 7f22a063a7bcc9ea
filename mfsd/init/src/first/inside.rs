//! The first process inside: starts the program, and waits for its end as the reaper of all.
//!
//! When the program runs, the first process is its user, too, and may do no more than it: an image of it gives
//! nobody root's rights.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use mfs_init::{Setup, read_frame, write_frame};
use rustix::fs::{Mode, OFlags, open};

use crate::entry::{INSIDE_KEEPER, INSIDE_ORDERS, INSIDE_REPORTS, INSIDE_SETUP, die_with};
use crate::reaper::Reaper;
use crate::refusal::{OrRefuse, Refusal};
use crate::relay::Relay;
use crate::terminal::Pair;
use crate::{program, sys, user};

/// Runs a job to its end. `None`: nobody has called as the keeper does.
pub(super) fn run() -> Option<ExitCode> {
    let inherited = |number| sys::inherited(number).ok();
    let (orders, reports) = (inherited(INSIDE_ORDERS)?, inherited(INSIDE_REPORTS)?);
    let (setup, keeper) = (inherited(INSIDE_SETUP)?, inherited(INSIDE_KEEPER)?);
    if !rustix::process::getpid().is_init() {
        return None;
    }
    let reports = File::from(reports);
    let report = match begin(orders, &reports, setup, keeper) {
        Ok(reaper) => reaper.run(),
        Err(refusal) => refusal.into(),
    };
    // If the daemon is gone, nobody wants to hear it.
    let _ = write_frame(&reports, &report);
    Some(ExitCode::SUCCESS)
}

fn begin<'a>(
    orders: OwnedFd,
    reports: &'a File,
    setup: OwnedFd,
    keeper: OwnedFd,
) -> Result<Reaper<'a>, Refusal> {
    // Those that are held have stayed so; but Rust ignores SIGPIPE in whatever it begins, and who is ignored
    // stays so in the program.
    sys::hold_signals().or_refuse("hold its signals")?;
    let setup = read_frame::<Setup>(File::from(setup)).or_refuse("be told what to run")?;
    let setup = setup.ok_or_else(|| Refusal::new("the job was not told what to run"))?;
    let pair = setup.program.terminal.map(|size| Pair::open(&setup, size)).transpose()?;
    let types = !setup.program.piped_input;
    let relay = pair.as_ref().map(|pair| Relay::new(pair, types)).transpose();
    let relay = relay.or_refuse("carry its terminal")?;
    let started = program::start(&setup, pair.map(|pair| pair.slave))?;
    // Whoever reads what the program writes must see the end of it, and nothing here may lead out of the view.
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.map_err(std::io::Error::from)
        .and_then(|null| sys::replace_standard_streams(&null))
        .or_refuse("let go of the program's streams")?;
    let reaper = Reaper::new(File::from(orders), reports, started, relay)?;
    user::become_user(&setup).or_refuse(format_args!("become user {}", setup.uid))?;
    // The change of user has undone it (PR_SET_PDEATHSIG(2const)).
    die_with(&keeper)?;
    Ok(reaper)
}
