//! Where a case works: a directory of its own on one kind of mount, and the same directory at home.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use mfs_tests::{Cluster, Node, Ran, Setup};

/// Longest wait for what comes a moment later.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A case: works at a place, panics where it finds something wrong.
pub(super) type Case = fn(&Place);

/// A kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// n1's mount of a directory whose home is n2.
    Remote,
    /// n1's mount of its own directory with dfsa=1: by direct access.
    Direct,
    /// n1's mount of its own directory with dfsa=0: through the server.
    Served,
}

/// The laboratory that all cases share; it comes up with the first.
#[derive(Debug, Default)]
pub(super) struct Stage(OnceLock<Cluster>);

/// A directory for one case.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The kind of mount.
    pub(super) kind: Kind,
    /// The directory through the mount, as this process sees it.
    pub(super) dir: PathBuf,
    /// The same directory on its home node's own file system, as this process sees it.
    pub(super) home: PathBuf,
    /// The directory through the mount, as processes of the node see it.
    pub(super) inside: String,
    /// The directory at home, as processes of its home node see it.
    pub(super) inside_home: String,
    cluster: &'a Cluster,
}

// === impl Kind ===

impl Kind {
    /// All kinds.
    pub(super) const ALL: [Self; 3] = [Self::Remote, Self::Direct, Self::Served];

    /// The word for it in the names of tests.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Direct => "direct",
            Self::Served => "served",
        }
    }

    /// The mount on n1, and the number of the home node.
    const fn way(self) -> (&'static str, u32) {
        match self {
            Self::Remote => ("/mfs/n2", 2),
            Self::Direct => ("/mfs/n1", 1),
            Self::Served => ("/mfs0/n1", 1),
        }
    }
}

// === impl Stage ===

impl Stage {
    /// A new, empty directory for the case `label`, open to all users, on a mount of this kind.
    pub(super) fn place(&self, kind: Kind, label: &str) -> Place<'_> {
        let cluster = self.0.get_or_init(|| {
            let cluster = Setup::nodes(2).up();
            let again = "mkdir -p /mfs0 && mount -t mfs -o dfsa=0 mfs /mfs0";
            cluster.node(1).run(again);
            cluster
        });
        let (mount, home) = kind.way();
        let directory: String =
            label.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let place = Place {
            kind,
            dir: cluster.node(1).path(&format!("{mount}/data/{directory}")),
            home: cluster.node(home).path(&format!("/data/{directory}")),
            inside: format!("{mount}/data/{directory}"),
            inside_home: format!("/data/{directory}"),
            cluster,
        };
        fs::create_dir(&place.home).expect("the laboratory's /data takes a directory");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&place.home, open).expect("its mode can be set");
        place
    }
}

// === impl Place ===

impl Place<'_> {
    /// The node that has the mount.
    pub(super) fn here(&self) -> Node<'_> {
        self.cluster.node(1)
    }

    /// The node whose file system it is.
    pub(super) fn home_node(&self) -> Node<'_> {
        self.cluster.node(self.kind.way().1)
    }

    /// A path through the mount.
    pub(super) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The same path at home.
    pub(super) fn at_home(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.join(name)
    }

    /// Runs shell inside the node with the mount, in the directory.
    pub(super) fn try_run(&self, line: &str) -> Ran {
        self.here().try_run(&format!("cd {} && {{ {line}\n}}", self.inside))
    }

    /// The same; it must succeed. Answers what it printed.
    #[track_caller]
    pub(super) fn run(&self, line: &str) -> String {
        let ran = self.try_run(line);
        assert!(ran.status.success(), "{line}\n{}\n{}{}", ran.status, ran.stdout, ran.stderr);
        ran.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs shell inside the home node, in the directory on its own file system; it must succeed.
    #[track_caller]
    pub(super) fn run_at_home(&self, line: &str) -> String {
        self.home_node().run(&format!("cd {} && {{ {line}\n}}", self.inside_home))
    }

    /// Runs a Python program inside the node with the mount, in the directory; it must succeed.
    #[track_caller]
    pub(super) fn python(&self, program: &str) -> String {
        self.run(&format!("python3 - <<'END'\n{program}\nEND"))
    }
}

/// The errno of a result that must be an error.
#[track_caller]
pub(super) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.expect_err("this must be refused").raw_os_error().expect("an error of the system")
}
