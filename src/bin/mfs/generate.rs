//! `mfs generate`: manual pages and completions, made from the arguments themselves; for `make`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use clap_complete::Shell;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to write
    what: What,
    /// The directory to write to; it is made if need be
    dir: PathBuf,
}

/// What can be generated.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Manual pages of all commands, section 1
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

/// Writes what is asked for about `command`.
pub(crate) fn run(args: &Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| write(args.what, command, &args.dir))
        .with_context(|| {
            format!("{} cannot be written; choose another directory", args.dir.display())
        })?;
    Ok(ExitCode::SUCCESS)
}

fn write(what: What, mut command: clap::Command, dir: &Path) -> io::Result<()> {
    match what {
        What::Man => clap_mangen::generate_to(command, dir),
        What::Completions => {
            [Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().try_for_each(|shell| {
                clap_complete::generate_to(shell, &mut command, "mfs", dir).map(|_| ())
            })
        }
    }
}
