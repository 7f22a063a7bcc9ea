//! `mfs block`, `unblock`, `stay`, `nostay`: how a node lends itself to jobs.

use std::process::ExitCode;

use mfs::load::{Lending, Speed, Wish};
use mfs_proto::v1;

use super::{Daemon, refused};
use crate::out::print;

/// Arguments of `mfs block`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mfs block                  this node runs no jobs of other nodes any more\n  mfs block --when-busy      it runs them only while its own users do not need it\n  mfs block n2               the same of n2, which must trust root of this node"
)]
pub(crate) struct BlockArgs {
    /// Take them while this node is idle; when its own users need it, send them away
    #[arg(long)]
    when_busy: bool,
    #[command(flatten)]
    whom: Whom,
}

/// Arguments of `mfs unblock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs unblock\n  mfs unblock n2")]
pub(crate) struct UnblockArgs {
    #[command(flatten)]
    whom: Whom,
}

/// Arguments of `mfs stay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs stay\n  mfs stay n2")]
pub(crate) struct StayArgs {
    #[command(flatten)]
    whom: Whom,
}

/// Arguments of `mfs nostay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  mfs nostay\n  mfs nostay n2")]
pub(crate) struct NostayArgs {
    #[command(flatten)]
    whom: Whom,
}

/// Which node.
#[derive(Debug, clap::Args)]
struct Whom {
    /// Its name; this node, if left out
    #[arg(value_name = "NODE", default_value = "", hide_default_value = true)]
    node: String,
    #[command(flatten)]
    daemon: Daemon,
}

/// Runs `mfs block`.
pub(super) async fn block(args: BlockArgs) -> anyhow::Result<ExitCode> {
    let name = args.whom.name();
    if args.when_busy {
        args.whom.wish(Wish::Lend(Lending::WhenIdle)).await?;
        return print(&format!(
            "{name} runs jobs of other nodes while it is idle: when its own processes have wanted less than a \
             quarter of its processors for a minute.\n"
        ));
    }
    args.whom.wish(Wish::Lend(Lending::Never)).await?;
    print(&format!(
        "{name} takes no jobs of other nodes any more; those that run there go on. `mfs unblock` undoes it.\n"
    ))
}

/// Runs `mfs unblock`.
pub(super) async fn unblock(args: UnblockArgs) -> anyhow::Result<ExitCode> {
    args.whom.wish(Wish::Lend(Lending::Always)).await?;
    print(&format!("{} takes jobs of other nodes.\n", args.whom.name()))
}

/// Runs `mfs stay`.
pub(super) async fn stay(args: StayArgs) -> anyhow::Result<ExitCode> {
    args.whom.wish(Wish::Stay(true)).await?;
    print(&format!(
        "{} keeps its jobs: none is moved away by itself any more. `mfs nostay` undoes it.\n",
        args.whom.name()
    ))
}

/// Runs `mfs nostay`.
pub(super) async fn nostay(args: NostayArgs) -> anyhow::Result<ExitCode> {
    args.whom.wish(Wish::Stay(false)).await?;
    print(&format!("{} lets its jobs be moved away.\n", args.whom.name()))
}

/// Tells a node what is wanted of it, by way of this machine's daemon. How fast its processors are taken for then.
pub(super) async fn tell(daemon: &Daemon, node: &str, wish: Wish) -> anyhow::Result<u32> {
    let mut mfsd = daemon.connect().await?;
    let request = v1::LendNodeRequest { node: node.to_owned(), lend: Some(wish.into()) };
    Ok(mfsd.lend_node(request).await.map_err(refused)?.into_inner().speed)
}

/// Takes what `mfs node set` sets: `speed=N`, `speed=auto`, `quiet=yes`, `quiet=no`.
pub(super) fn setting(text: &str) -> Result<Wish, String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, such as speed=auto")?;
    let speeds = Speed::RANGE;
    match (name, value) {
        ("speed", "auto") => Ok(Wish::Speed(None)),
        ("speed", number) => {
            let speed = number.parse().ok().and_then(Speed::new);
            speed.map(|speed| Wish::Speed(Some(speed))).ok_or_else(|| {
                format!("a speed is auto, or a number from {} to {}", speeds.start(), speeds.end())
            })
        }
        ("quiet", "yes") => Ok(Wish::Quiet(true)),
        ("quiet", "no") => Ok(Wish::Quiet(false)),
        ("quiet", _) => Err("quiet is yes or no".to_owned()),
        _ => Err("what can be set is speed (a number, or auto) and quiet (yes, or no)".to_owned()),
    }
}

// === impl Whom ===

impl Whom {
    async fn wish(&self, wish: Wish) -> anyhow::Result<()> {
        tell(&self.daemon, &self.node, wish).await.map(drop)
    }

    fn name(&self) -> &str {
        if self.node.is_empty() { "This node" } else { &self.node }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_mistakes_are_told() {
        assert_eq!(setting("speed=auto"), Ok(Wish::Speed(None)));
        assert_eq!(setting("speed=20000"), Ok(Wish::Speed(Speed::new(20_000))));
        assert_eq!(setting("quiet=no"), Ok(Wish::Quiet(false)));
        for (text, part) in [
            ("speed", "NAME=VALUE"),
            ("speed=0", "from 1 to"),
            ("speed=fast", "from 1 to"),
            ("quiet=1", "yes or no"),
            ("colour=red", "speed"),
        ] {
            assert!(setting(text).unwrap_err().contains(part), "{text}");
        }
    }
}
