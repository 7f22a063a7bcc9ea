//! mfs-init: the keeper of a job, and the first process inside it.
//!
//! As the keeper it is started by mfsd, and stays outside the job's namespaces (`keeper`). As the first process
//! it makes the home's tree its root (`entry`), and goes on as a copy of itself inside (`inside`), since what
//! is to be carried to another node may hold no file of this one. As a gate it is called by CRIU (`gate`).
//!
//! It never has a second thread: it forks, and children go on as Rust programs.

mod call;
mod device;
mod entry;
mod gate;
mod inside;
mod keeper;
mod program;
mod reaper;
mod refusal;
mod relay;
mod restore;
mod sys;
mod terminal;
mod user;
mod view;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use call::JobUser;

/// The keeper's socket to the daemon.
const DAEMON: i32 = 3;
/// Descriptors of the keeper: what the daemon orders the first process to do, and what that reports.
const ORDERS: i32 = 4;
const REPORTS: i32 = 5;

/// Its first argument as the keeper, as the first process, and where it calls CRIU.
const KEEP: &str = "keep";
const FIRST: &str = "first";
const CALL: &str = "call";

fn main() -> ExitCode {
    if let Some(step) = std::env::var_os(gate::ACTION) {
        let images = std::env::var_os(gate::IMAGES).unwrap_or_default();
        return gate::pass(&step, Path::new(&images));
    }
    let mut words = std::env::args_os().skip(1);
    let role = words.next();
    // The home stands for the mount to read, and for nobody here.
    let mut words = words.skip(1);
    let done = match role.as_ref().and_then(|role| role.to_str()) {
        Some(KEEP) => keeper::run(JobUser::parse(&mut words)),
        Some(FIRST) => inside::run(),
        Some(CALL) => call::run(words),
        _ => None,
    };
    done.unwrap_or_else(|| {
        let sentence = "mfs-init: mfsd starts me, nobody else; to run a program as a job: mfs run";
        let _ = writeln!(std::io::stderr(), "{sentence}");
        ExitCode::from(2)
    })
}
