//! How a node takes newer certificates, registers and keys into use: on the disk first, then in memory.

use std::sync::Arc;
use std::time::Duration;

use mfs::identity::{ClusterKeys, Credentials, Register, SignedRegister};
use mfs::membership::{Admitted, GossipKey, Keyring, Roster, View};
use tracing::{info, warn};

use super::Node;

/// How long the gossip key before the present one is still accepted: until all have the new one.
const OLD_KEY_LIFE: Duration = Duration::from_secs(60);

/// How long a change of the register waits at most until the node's own view shows it.
const VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// The register as membership takes it.
pub(super) fn roster(register: &Register) -> Roster {
    let admitted = register.nodes.iter().map(|(id, node)| Admitted {
        id: *id,
        name: node.name.clone(),
        number: node.number,
        addresses: node.addresses.clone(),
    });
    Roster::new(admitted, register.removed.keys().copied())
}

/// The gossip keys as membership takes them.
pub(super) fn keyring(keys: &ClusterKeys) -> Option<Keyring> {
    let mut keys = keys.gossip.iter().map(|key| GossipKey::new(key.id, key.key.as_bytes()));
    Some(Keyring::new(keys.next()?, keys.next()))
}

impl Node {
    /// Takes a new certificate into use; connections that exist go on with the old one.
    pub(crate) fn take_credentials(&self, credentials: Credentials) -> anyhow::Result<()> {
        self.store.write_chain(credentials.identity().chain())?;
        self.credentials.send_replace(Arc::new(credentials));
        Ok(())
    }

    /// Takes a register, with its keys, if it is newer than the one in use. Answers whether it was newer.
    /// Only within [`Node::registering`]; [`Node::cut_off_removed`] is to follow.
    pub(crate) fn take_register(
        self: &Arc<Self>,
        signed: SignedRegister,
        keys: Option<ClusterKeys>,
    ) -> anyhow::Result<bool> {
        let credentials = self.credentials();
        let identity = credentials.identity();
        let Some(trust) = identity.trust().with_register(signed)? else { return Ok(false) };
        let keys = self.believe_keys(keys, trust.register())?;
        self.store.write_keys(&keys)?;
        self.store.write_register(trust.signed_register())?;
        let next = Credentials::new(identity.with_trust(trust))?;
        let trust = next.identity().trust().clone();
        self.credentials.send_replace(Arc::new(next));
        let rotated = keys.gossip_digest() != self.keys().gossip_digest();
        self.keys.send_replace(keys);
        if let Some(membership) = self.membership.get() {
            if let Some(keyring) = keyring(&self.keys()) {
                membership.set_keys(keyring);
            }
            membership.set_roster(roster(trust.register()));
        }
        if rotated {
            self.retire_old_key();
        }
        Ok(true)
    }

    /// Waits until the view says what the register says: gossip takes a register a moment later, and
    /// whoever asks this node next is to find it so.
    pub(crate) async fn view_follows(&self, wanted: impl FnMut(&View) -> bool) {
        let mut view = self.watch_view();
        if tokio::time::timeout(VIEW_TIMEOUT, view.wait_for(wanted)).await.is_err() {
            warn!("gossip is slow to show a change of the cluster's nodes");
        }
    }

    /// Ends the connections and sessions of nodes that were removed. Their certificates are refused
    /// from the moment on in which the register was taken.
    pub(crate) fn cut_off_removed(&self) {
        let credentials = self.credentials();
        let trust = credentials.identity().trust();
        let cut = self.connections.close(|node| node.is_some_and(|node| trust.is_removed(node)));
        if cut > 0 {
            info!("{cut} connections of removed nodes were cut off");
        }
        for gone in trust.register().removed.keys() {
            self.files.forget_peer(*gone);
        }
    }

    /// The keys that go with a register: the register names the gossip key, so that nobody can slip in
    /// another, and the key of the inode numbers never changes.
    fn believe_keys(
        &self,
        offered: Option<ClusterKeys>,
        register: &Register,
    ) -> anyhow::Result<ClusterKeys> {
        let own = self.keys();
        let keys = offered.unwrap_or_else(|| own.clone());
        anyhow::ensure!(
            keys.gossip_digest() == Some(register.gossip) && keys.inodes == own.inodes,
            "the keys are not those that the authority signed"
        );
        Ok(keys)
    }

    /// Forgets the gossip key before the present one, which a removed node has, after a while.
    pub(super) fn retire_old_key(self: &Arc<Self>) {
        if self.keys().gossip.len() < 2 {
            return;
        }
        let node = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(OLD_KEY_LIFE) => {}
            }
            let retired = node.registering(async { node.forget_old_key() }).await;
            if let Err(error) = retired {
                warn!("the old gossip key is still accepted: {error:#}");
            }
        });
    }

    fn forget_old_key(&self) -> anyhow::Result<()> {
        let mut keys = self.keys();
        keys.gossip.truncate(1);
        self.store.write_keys(&keys)?;
        if let (Some(membership), Some(keyring)) = (self.membership.get(), keyring(&keys)) {
            membership.set_keys(keyring);
        }
        self.keys.send_replace(keys);
        Ok(())
    }
}
