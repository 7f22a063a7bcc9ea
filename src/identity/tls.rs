//! TLS configurations made of an identity: TLS 1.3 only, certificates on both sides.
//!
//! Nothing is resumed: a session ticket would let a node that was removed meanwhile in again without
//! a look at its certificate.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::trust::verify_by_digest;
use super::{Digest, Identity, IdentityError, PeerCertificate, Trust};
use crate::types::NodeId;

/// An identity and the TLS configurations made of it. A renewal replaces the whole.
#[derive(Clone)]
pub struct Credentials {
    identity: Arc<Identity>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// The one protocol spoken on the port.
const ALPN: &[u8] = b"h2";

// === impl Credentials ===

impl Credentials {
    /// Makes the configurations.
    pub fn new(identity: Identity) -> Result<Self, IdentityError> {
        let identity = Arc::new(identity);
        let verifier = Arc::new(Verifier::new(Whom::Cluster(identity.trust().clone())));
        let key = || identity.key().to_private_der();
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(identity.chain().to_vec(), key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(identity.chain().to_vec(), key())?;
        let client = finish_client(client);
        Ok(Self { identity, server: Arc::new(server), client })
    }

    /// The identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For the accepting side. A peer without a certificate gets through the handshake: it may only
    /// join; a certificate that is shown must be good.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For the connecting side; use [`server_name`] to say which node must answer.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// Who the peer of a finished handshake is, from its certificate; `None` if it showed none.
    pub fn peer_of(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
        now: UnixTime,
    ) -> Result<Option<PeerCertificate>, IdentityError> {
        let Some((certificate, intermediates)) = certificates.and_then(<[_]>::split_first) else {
            return Ok(None);
        };
        self.identity.trust().verify(certificate, intermediates, now).map(Some)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// For a machine that has only a token: believes no server but one whose chain ends in the authority
/// with this digest, and shows no certificate.
pub fn joiner_config(authority: Digest) -> Result<Arc<ClientConfig>, IdentityError> {
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(Whom::Authority(authority))))
        .with_no_client_auth();
    Ok(finish_client(client))
}

fn finish_client(mut client: ClientConfig) -> Arc<ClientConfig> {
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    // The name is only for our own verifier; a listener on the network need not see it.
    client.enable_sni = false;
    Arc::new(client)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// The name under which rustls is to look for a node: its id, which the verifier compares with the
/// certificate. (A DNS label holds 63 characters, an id has 64.)
pub fn server_name(node: NodeId) -> ServerName<'static> {
    let id = node.to_string();
    let (head, tail) = id.split_at(32);
    // 65 characters of a-f, 0-9 and one dot, and a last label that is no number: always a DNS name.
    ServerName::try_from(format!("{head}.{tail}.{NODE_DOMAIN}")).unwrap_or_else(|_| any_server())
}

/// The name under which rustls is to look for whichever node answers: for a joiner, and for a node that
/// knows another only by its address.
pub fn any_server() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into())
}

const NODE_DOMAIN: &str = "mfs";

/// Who is to answer.
enum Expected {
    /// This node.
    Node(NodeId),
    /// Any that is believed.
    Any,
}

/// Whom a name from [`server_name`] or [`any_server`] means.
fn expected(name: &ServerName<'_>) -> Option<Expected> {
    let ServerName::DnsName(name) = name else {
        return (*name == any_server()).then_some(Expected::Any);
    };
    let (id, domain) = name.as_ref().rsplit_once('.')?;
    let node = (domain == NODE_DOMAIN).then(|| id.replacen('.', "", 1).parse().ok()).flatten();
    node.map(Expected::Node)
}

/// Checks the other side's certificate, whichever side it is.
#[derive(Debug)]
struct Verifier {
    whom: Whom,
    provider: CryptoProvider,
}

/// Whom to believe.
#[derive(Debug)]
enum Whom {
    /// Nodes of the cluster.
    Cluster(Trust),
    /// Any node with a certificate of the authority with this digest.
    Authority(Digest),
}

// === impl Verifier ===

impl Verifier {
    fn new(whom: Whom) -> Self {
        Self { whom, provider: default_provider() }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerCertificate, Error> {
        match &self.whom {
            Whom::Cluster(trust) => trust.verify(certificate, intermediates, now),
            Whom::Authority(digest) => verify_by_digest(digest, certificate, intermediates, now),
        }
        .map_err(refusal)
    }
}

/// What rustls asks of the verifiers of both sides alike, in two traits.
macro_rules! signatures {
    () => {
        /// Only TLS 1.3 is configured; an older signature cannot come.
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// As rustls tells it: the alert says to the peer what it can do something about, the sentence stays
/// here for the log.
fn refusal(error: IdentityError) -> Error {
    match error {
        IdentityError::Removed(_) => Error::InvalidCertificate(CertificateError::Revoked),
        other => Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.verify(certificate, intermediates, now)?;
        match expected(name) {
            Some(Expected::Any) => Ok(ServerCertVerified::assertion()),
            Some(Expected::Node(node)) if node == peer.node => Ok(ServerCertVerified::assertion()),
            Some(Expected::Node(node)) => Err(refusal(IdentityError::NotTrusted(format!(
                "node {} answers where node {} was expected",
                peer.node.short(),
                node.short()
            )))),
            None => Err(refusal(IdentityError::NotTrusted(
                "the connection does not say which node it is for".to_owned(),
            ))),
        }
    }

    signatures!();
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// A machine that joins has no certificate yet; the listener lets such a peer do nothing else.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, intermediates, now).map(|_| ClientCertVerified::assertion())
    }

    signatures!();
}
