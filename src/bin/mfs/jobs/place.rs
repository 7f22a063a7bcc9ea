//! Where a job is wanted: on a node that was named, or on that of its files.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mfs::jobs::{Hints, Kind};

use crate::stats;

/// The name of every job's home.
const HOME: &str = "home";

/// What was said of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The node, by name; empty: the best.
    pub(super) node: String,
    /// What goes with the job.
    pub(super) hints: Hints,
}

/// What these arguments say.
pub(super) fn wanted(
    node: Option<String>,
    near: Option<PathBuf>,
    cpu: bool,
    io: bool,
    stays: bool,
) -> anyhow::Result<Wanted> {
    let kind = match (cpu, io) {
        (true, _) => Kind::Cpu,
        (_, true) => Kind::Io,
        _ => Kind::Unknown,
    };
    // What is said of no file is said of the directory.
    let data = near.or_else(|| (kind == Kind::Io).then(|| PathBuf::from(".")));
    let near = match data {
        Some(path) => holder(&path)?,
        None => String::new(),
    };
    // Whoever names a node means it.
    let stays = stays || node.is_some();
    let node = node.unwrap_or_else(|| near.clone());
    Ok(Wanted { node, hints: Hints { kind, near, stays } })
}

/// The node that holds a file: that of its directory in the cluster's tree, else this one.
fn holder(path: &Path) -> anyhow::Result<String> {
    let real = path.canonicalize().with_context(|| path.display().to_string())?;
    let mounts = stats::mountpoints_of_this_machine()?;
    let node = mounts.iter().find_map(|mount| node_below(mount, &real));
    Ok(node.unwrap_or_else(|| HOME.to_owned()))
}

/// The node below whose directory in that mount a path lies.
fn node_below(mount: &Path, path: &Path) -> Option<String> {
    let first = path.strip_prefix(mount).ok()?.components().next()?;
    Some(first.as_os_str().to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_on_the_node_that_their_path_names() {
        let node = |path: &str| node_below(Path::new("/mfs"), Path::new(path));
        assert_eq!(node("/mfs/n2/data").as_deref(), Some("n2"));
        assert_eq!(node("/mfs"), None);
        assert_eq!(node("/home/anna"), None);
        assert_eq!(holder(Path::new("/")).unwrap(), HOME);
        assert!(holder(Path::new("/no/such")).is_err());
    }

    #[test]
    fn what_reads_and_writes_is_wanted_where_its_directory_is() {
        let io = wanted(None, None, false, true, true).unwrap();
        let hints = Hints { kind: Kind::Io, near: HOME.to_owned(), stays: true };
        assert_eq!(io, Wanted { node: HOME.to_owned(), hints });
        let named = wanted(Some("n3".to_owned()), None, true, false, false).unwrap();
        assert_eq!((named.node.as_str(), named.hints.kind), ("n3", Kind::Cpu));
        assert!(named.hints.stays);
    }
}
