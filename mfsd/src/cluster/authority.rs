//! `Desk`: where this node acts for the cluster's authority: tokens, admissions, certificates, the
//! register. Only on nodes that hold the authority's key.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mfs::clock;
use mfs::identity::{
    Authority, CERTIFICATE_LIFE, ClusterId, ClusterKeys, IdentityError, Register, Registered,
    SignedRegister, Store, Subject, Token,
};
use mfs::sync::Mutex;
use mfs::types::{NodeId, NodeName, NodeNumber};
use rustls::pki_types::CertificateDer;
use tonic::Status;
use tracing::{info, warn};

use super::attempts::Attempts;
use super::naming;
use super::tokens::{Tokens, TokensError};
use crate::node::Node;

/// The authority's desk.
///
/// Lock order: `tokens`, `attempts`; neither is held while the other is taken.
pub(crate) struct Desk {
    authority: Authority,
    cluster: ClusterId,
    store: Store,
    tokens: Mutex<Tokens>,
    attempts: Mutex<Attempts>,
}

/// A machine that asks to be admitted.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The secret of its token.
    pub(crate) secret: Vec<u8>,
    /// Its request for a certificate.
    pub(crate) request: Vec<u8>,
    /// The name it wants.
    pub(crate) name: String,
    /// The number it wants.
    pub(crate) number: Option<NodeNumber>,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it asks from.
    pub(crate) from: IpAddr,
}

/// A machine that was admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Its certificate and the authority's.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Its name.
    pub(crate) name: NodeName,
}

/// What a removal changes.
#[derive(Debug)]
pub(crate) struct Removal {
    /// The register without the node.
    pub(crate) register: SignedRegister,
    /// The keys that it does not have.
    pub(crate) keys: ClusterKeys,
}

/// Where the tokens are kept.
const TOKENS: &str = "tokens.json";

/// How long a removal is remembered, seconds: longer than any certificate of the node can be valid.
const REMEMBER_REMOVED: u64 = 2 * CERTIFICATE_LIFE.as_secs();

// === impl Desk ===

impl Desk {
    /// The desk, if this node holds the authority's key.
    pub(crate) fn open(store: &Store, cluster: ClusterId) -> Result<Option<Self>, IdentityError> {
        let Some(authority) = store.load_authority()? else { return Ok(None) };
        let tokens = store.read(TOKENS)?.unwrap_or_default();
        Ok(Some(Self {
            authority,
            cluster,
            store: store.clone(),
            tokens: Mutex::new(tokens),
            attempts: Mutex::default(),
        }))
    }

    /// Makes a token; only its digest is kept.
    pub(crate) fn create_token(&self, uses: u32, seconds: u64) -> Result<Token, Status> {
        let token = Token::generate(self.authority.digest()).map_err(internal)?;
        let now = clock::unix_seconds();
        self.change_tokens(|tokens| tokens.add(&token, uses, seconds, now))?;
        Ok(token)
    }

    /// Makes a token unusable.
    pub(crate) fn revoke_token(&self, text: &str) -> Result<(), Status> {
        let now = clock::unix_seconds();
        self.change_tokens(|tokens| tokens.revoke(text, now))
    }

    /// The tokens as they are now.
    pub(crate) fn tokens(&self) -> Tokens {
        self.tokens.lock().clone()
    }

    /// Changes the tokens, on the disk first.
    fn change_tokens(
        &self,
        change: impl FnOnce(&mut Tokens) -> Result<(), TokensError>,
    ) -> Result<(), Status> {
        let mut tokens = self.tokens.lock();
        let mut changed = tokens.clone();
        change(&mut changed).map_err(|e| Status::failed_precondition(e.to_string()))?;
        self.store.write(TOKENS, &changed).map_err(internal)?;
        *tokens = changed;
        Ok(())
    }

    /// Admits a machine, or says why not. The register changes before the answer is sent.
    pub(crate) async fn admit(
        &self,
        node: &Arc<Node>,
        candidate: &Candidate,
    ) -> Result<Admitted, Status> {
        if !self.attempts.lock().allow(candidate.from, clock::now()) {
            return Err(Status::resource_exhausted(
                "too many attempts from this address: wait half a minute",
            ));
        }
        let admitted = node.registering(async { self.admit_alone(node, candidate) }).await?;
        node.view_follows(|view| view.by_name(&admitted.name).is_some()).await;
        Ok(admitted)
    }

    fn admit_alone(&self, node: &Arc<Node>, candidate: &Candidate) -> Result<Admitted, Status> {
        let now = clock::unix_seconds();
        let refuse = |e: IdentityError| Status::invalid_argument(e.to_string());
        let id = Authority::node_of_request(&candidate.request).map_err(refuse)?;
        if let Err(refused) = self.tokens.lock().check(&candidate.secret, id, now) {
            warn!("{} tried to join with a token that is not valid", candidate.from);
            return Err(Status::permission_denied(refused.to_string()));
        }
        let credentials = node.credentials();
        let register = credentials.identity().trust().register();
        if register.removed.contains_key(&id) {
            // Whoever kept the key of an attempt may ask with another one.
            return Err(Status::failed_precondition(
                "this key belonged to a node that was removed",
            ));
        }
        let name = choose_name(&candidate.name, id, register)?;
        let number = match register.nodes.get(&id) {
            Some(known) => known.number,
            None => choose_number(candidate, register)?,
        };
        let subject = Subject { cluster: self.cluster, name: name.clone(), number };
        let request = &candidate.request;
        let certificate =
            self.authority.issue(request, &subject, now, CERTIFICATE_LIFE).map_err(refuse)?;
        self.consume(candidate, id, now)?;
        let mut next = Self::successor(register);
        let addresses = candidate.addresses.clone();
        next.nodes.insert(id, Registered { name: name.clone(), number, addresses, since: now });
        let signed = self.authority.sign(&next).map_err(internal)?;
        node.take_register(signed, None).map_err(internal)?;
        info!("node {name} (number {number}, {}) joined from {}", id.short(), candidate.from);
        let chain = vec![certificate, self.authority.certificate().clone()];
        Ok(Admitted { chain, name })
    }

    /// Uses the token up, on the disk first and before the node is in: a crash in between costs a
    /// token, not a surprise.
    fn consume(&self, candidate: &Candidate, id: NodeId, now: u64) -> Result<(), Status> {
        let mut tokens = self.tokens.lock();
        let mut used = tokens.clone();
        used.consume(&candidate.secret, id, now)
            .map_err(|e| Status::permission_denied(e.to_string()))?;
        self.store.write(TOKENS, &used).map_err(internal)?;
        *tokens = used;
        drop(tokens);
        self.attempts.lock().forgive(candidate.from);
        Ok(())
    }

    /// A new certificate for a node of the register, which asks with the same key.
    pub(crate) fn renew(
        &self,
        node: &Node,
        peer: NodeId,
        request: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, Status> {
        let refuse = |e: IdentityError| Status::invalid_argument(e.to_string());
        let asked = Authority::node_of_request(request).map_err(refuse)?;
        let credentials = node.credentials();
        let register = credentials.identity().trust().register();
        let known = register.nodes.get(&peer).filter(|_| asked == peer).ok_or_else(|| {
            Status::permission_denied("a node renews the certificate of its own key, and no other")
        })?;
        let subject =
            Subject { cluster: self.cluster, name: known.name.clone(), number: known.number };
        let now = clock::unix_seconds();
        let certificate =
            self.authority.issue(request, &subject, now, CERTIFICATE_LIFE).map_err(refuse)?;
        Ok(vec![certificate, self.authority.certificate().clone()])
    }

    /// The register without a node, and keys that it does not have; to be taken and told to all.
    pub(crate) fn without(&self, node: &Node, gone: NodeId) -> Result<Removal, IdentityError> {
        let keys = node.keys().rotated()?;
        let credentials = node.credentials();
        let mut next = Self::successor(credentials.identity().trust().register());
        next.nodes.remove(&gone);
        next.removed.insert(gone, clock::unix_seconds());
        if let Some(digest) = keys.gossip_digest() {
            next.gossip = digest;
        }
        Ok(Removal { register: self.authority.sign(&next)?, keys })
    }

    /// The register to change next, with old removals forgotten.
    fn successor(register: &Register) -> Register {
        let now = clock::unix_seconds();
        let mut next = register.clone();
        next.epoch += 1;
        next.removed.retain(|_, since| now < since.saturating_add(REMEMBER_REMOVED));
        next
    }

    /// The first register of a new cluster.
    pub(crate) fn first_register(
        authority: &Authority,
        founder: NodeId,
        registered: Registered,
        keys: &ClusterKeys,
    ) -> Result<SignedRegister, IdentityError> {
        let gossip = keys.gossip_digest().ok_or(IdentityError::BadSignature)?;
        authority.sign(&Register {
            cluster: ClusterId::of_authority(&authority.digest()),
            epoch: 1,
            nodes: BTreeMap::from([(founder, registered)]),
            removed: BTreeMap::new(),
            gossip,
        })
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// An error that is this node's own fault.
pub(crate) fn internal(error: impl fmt::Display) -> Status {
    Status::internal(format!("{error:#}"))
}

fn choose_name(wanted: &str, id: NodeId, register: &Register) -> Result<NodeName, Status> {
    let is_taken =
        |name: &NodeName| register.nodes.iter().any(|(node, r)| *node != id && r.name == *name);
    let proposal = || {
        naming::free_name(wanted, is_taken)
            .map_or_else(String::new, |free| format!("; this one is free: --name {free}"))
    };
    let name = NodeName::parse(wanted)
        .map_err(|e| Status::invalid_argument(format!("{e}{}", proposal())))?;
    if is_taken(&name) {
        let taken = format!("there is a node {name} in the cluster already{}", proposal());
        return Err(Status::already_exists(taken));
    }
    Ok(name)
}

fn choose_number(candidate: &Candidate, register: &Register) -> Result<NodeNumber, Status> {
    let is_taken = |number| register.nodes.values().any(|node| node.number == number);
    naming::free_number(candidate.number, &candidate.addresses, is_taken)
        .ok_or_else(|| Status::resource_exhausted("all 65535 node numbers are taken"))
}
