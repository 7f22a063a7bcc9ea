//! The `mfs` command: parses, calls, prints. What it does lives in the modules beside.

mod cluster;
mod demo;
mod generate;
mod jobs;
mod lab;
mod out;
mod raw;
mod select;
mod stats;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// One file tree over many machines.
#[derive(Debug, Parser)]
#[command(name = "mfs", version, propagate_version = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Cluster(cluster::Command),
    #[command(flatten)]
    Jobs(jobs::Command),
    /// A cluster of several nodes on this machine, in namespaces: to try mfs, to test it
    Lab(lab::Args),
    /// Show a cluster of three nodes at work on this machine
    Demo(demo::Args),
    /// Which node /mfs/selected is, for this shell and what it starts
    Select(select::Args),
    /// Counters of a node: messages, opens, sessions, descriptors
    Stats(stats::Args),
    /// Write manual pages or completions
    #[command(hide = true)]
    Generate(generate::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        Command::Cluster(command) => cluster::run(command),
        Command::Jobs(command) => jobs::run(command),
        Command::Lab(args) => lab::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Select(args) => select::run(&args),
        Command::Stats(args) => stats::run(args),
        Command::Generate(args) => generate::run(&args, Args::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            out::tell(format_args!("mfs: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
