//! The programs of a node: those that lie beside the `mfs` that was called, so that nothing need be
//! installed and a build tests itself.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// Where each is, as far as found.
#[derive(Debug)]
pub(super) struct Programs {
    mfs: PathBuf,
    mfsd: Option<PathBuf>,
    job_init: Option<PathBuf>,
    mount: Option<PathBuf>,
    mount_helper: Option<PathBuf>,
}

// === impl Programs ===

impl Programs {
    /// Looks beside this program, and in `sbin` beside its `bin`, where `make install` puts them.
    pub(super) fn beside_this() -> anyhow::Result<Self> {
        let mfs = std::env::current_exe()
            .and_then(|path| path.canonicalize())
            .context("cannot tell where this mfs is: was it replaced? Call it again by its path")?;
        let here = mfs.parent().map(PathBuf::from).unwrap_or_default();
        let places = [here.clone(), here.join("../sbin"), PathBuf::from("/sbin")];
        let find = |name: &str| places.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        let mount = find("mfs-fuse");
        // One program under two names; a build makes only the first.
        let mount_helper = here.join("mount.mfs").is_file().then(|| here.join("mount.mfs"));
        let mount_helper = mount_helper.or_else(|| mount.clone());
        Ok(Self { mfsd: find("mfsd"), job_init: find("mfs-init"), mount, mount_helper, mfs })
    }

    /// Refuses when a cluster could not be formed with these.
    pub(super) fn complete(&self) -> anyhow::Result<()> {
        let missing =
            [(&self.mfsd, "mfsd"), (&self.job_init, "mfs-init"), (&self.mount, "mfs-fuse")];
        for (program, name) in missing {
            if program.is_none() {
                let dir = self.mfs.with_file_name("");
                bail!(
                    "there is no {name} beside {}: build all with make, or call an installed mfs",
                    dir.display()
                );
            }
        }
        Ok(())
    }

    /// Each with its place in a node.
    pub(super) fn places(self) -> impl Iterator<Item = (PathBuf, &'static str)> {
        let all = [
            (Some(self.mfs), "/usr/local/bin/mfs"),
            (self.mfsd, "/usr/local/sbin/mfsd"),
            (self.job_init, "/usr/local/sbin/mfs-init"),
            (self.mount, "/usr/local/sbin/mfs-fuse"),
            (self.mount_helper, "/sbin/mount.mfs"),
        ];
        all.into_iter().filter_map(|(program, place)| Some((program?, place)))
    }
}
