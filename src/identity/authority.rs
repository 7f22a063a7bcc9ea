//! `Authority`: the cluster's certificate authority; its key lies only on the node that founded it.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SigningKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::secret::random;
use super::{ClusterId, Digest, IdentityError, NodeKey, Register, SignedRegister, spki_digest};
use crate::types::{NodeId, NodeName, NodeNumber};

/// How long a node's certificate is valid. It is renewed at half of it, so that a node may be away for
/// two weeks, and what a thief of a key can do ends by itself.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// How long the authority's own certificate is valid: as long as anybody keeps a cluster.
const AUTHORITY_LIFE: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How far certificates begin in the past, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// 2.5.4.5, the serial-number attribute of a subject: here the node's number.
const OID_SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

/// The certificate authority of a cluster.
#[derive(Debug)]
pub struct Authority {
    key: NodeKey,
    certificate: CertificateDer<'static>,
}

/// What a certificate is to say of a node, beside its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's name.
    pub name: NodeName,
    /// The node's number.
    pub number: NodeNumber,
}

// === impl Authority ===

impl Authority {
    /// Founds a cluster at the time `now`, seconds since 1970.
    pub fn found(now: u64) -> Result<Self, IdentityError> {
        let key = NodeKey::generate()?;
        let id = ClusterId::of_authority(&Digest::from_bytes(*key.node().as_bytes()));
        let mut params = validity(now, AUTHORITY_LIFE)?;
        params.distinguished_name.push(DnType::CommonName, format!("mfs cluster {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(key.pair())?.der().clone();
        Ok(Self { key, certificate })
    }

    /// The authority as [`Self::key_pem`] and [`Self::certificate`] keep it.
    pub fn from_pem(key: &str, certificate: &str) -> Result<Self, IdentityError> {
        let key = NodeKey::from_pem(key)?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|e| IdentityError::malformed("the authority's certificate", e))?;
        if super::certificate::spki_digest_of(&certificate)?.as_bytes() != key.node().as_bytes() {
            return Err(IdentityError::malformed(
                "the authority's key",
                "it is not that of ca.crt",
            ));
        }
        Ok(Self { key, certificate })
    }

    /// Its private key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Digest of its public key, which tokens carry.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(*self.key.node().as_bytes())
    }

    /// The node that asks by this request (PKCS#10): the digest of the key in it.
    pub fn node_of_request(request: &[u8]) -> Result<NodeId, IdentityError> {
        let request = parse_request(request)?;
        Ok(NodeId::from_digest(spki_digest(&request.public_key.subject_public_key_info())))
    }

    /// Signs a certificate for the key in `request` (PKCS#10, whose own signature is checked). Nothing
    /// but the key is taken from the request.
    pub fn issue(
        &self,
        request: &[u8],
        subject: &Subject,
        now: u64,
        life: Duration,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let public_key = parse_request(request)?.public_key;
        let node = NodeId::from_digest(spki_digest(&public_key.subject_public_key_info()));
        let mut params = validity(now, life)?;
        let uri = subject.cluster.spiffe_id(node);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        params
            .distinguished_name
            .push(DnType::CustomDnType(OID_SERIAL_NUMBER.to_vec()), subject.number.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every node is client and server of every other.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, self.key.pair())?;
        Ok(params.signed_by(&public_key, &issuer)?.der().clone())
    }

    /// Signs a register.
    pub fn sign(&self, register: &Register) -> Result<SignedRegister, IdentityError> {
        let body = register.to_json()?;
        let signature = self.key.pair().sign(body.as_bytes())?;
        Ok(SignedRegister { body, signature })
    }
}

fn parse_request(request: &[u8]) -> Result<CertificateSigningRequestParams, IdentityError> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|e| IdentityError::malformed("the request for a certificate", e))
}

/// Parameters valid from a day before `now` for `life` from `now`, with a random serial number and an
/// empty name.
fn validity(now: u64, life: Duration) -> Result<CertificateParams, IdentityError> {
    // The `time` crate's own epoch is private to rcgen; days since 1970 are added to this one.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(now);
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now.saturating_add(life);
    params.serial_number = Some(SerialNumber::from_slice(&random::<16>()?));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PeerCertificate;

    fn subject(authority: &Authority) -> Subject {
        Subject {
            cluster: ClusterId::of_authority(&authority.digest()),
            name: NodeName::parse("n1").unwrap(),
            number: NodeNumber::new(309).unwrap(),
        }
    }

    #[test]
    fn a_certificate_says_what_the_authority_decided() {
        let authority = Authority::found(1_700_000_000).unwrap();
        let key = NodeKey::generate().unwrap();
        let subject = subject(&authority);
        let request = key.request().unwrap();
        assert_eq!(Authority::node_of_request(&request).unwrap(), key.node());
        let certificate =
            authority.issue(&request, &subject, 1_700_000_000, CERTIFICATE_LIFE).unwrap();
        let parsed = PeerCertificate::parse(&certificate).unwrap();
        assert_eq!(parsed.node, key.node());
        assert_eq!(parsed.cluster, subject.cluster);
        assert_eq!((parsed.name, parsed.number), (subject.name, subject.number));
        assert_eq!(parsed.not_after, 1_700_000_000 + 30 * 86_400);
        assert_eq!(parsed.not_before, 1_700_000_000 - 86_400);
    }

    #[test]
    fn a_request_that_was_tampered_with_is_refused() {
        let authority = Authority::found(1_700_000_000).unwrap();
        let mut request = NodeKey::generate().unwrap().request().unwrap();
        let last = request.len() - 1;
        request[last] ^= 1;
        let life = CERTIFICATE_LIFE;
        assert!(authority.issue(&request, &subject(&authority), 1_700_000_000, life).is_err());
        assert!(authority.issue(b"", &subject(&authority), 1_700_000_000, life).is_err());
    }

    #[test]
    fn an_authority_survives_pem() {
        let authority = Authority::found(1_700_000_000).unwrap();
        let pem = super::super::store::to_pem([authority.certificate()]);
        let again = Authority::from_pem(&authority.key_pem(), &pem).unwrap();
        assert_eq!(again.digest(), authority.digest());
        let other = Authority::found(1_700_000_000).unwrap();
        assert!(Authority::from_pem(&other.key_pem(), &pem).is_err());
    }
}
