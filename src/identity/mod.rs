//! Who this node is, and whom it believes: keys, certificates, the store of both, and the TLS
//! configurations made of them.
//!
//! Not here: sockets, files of the configuration, who may do what (that is decided where it is asked).

mod authority;
mod certificate;
mod enrolment;
mod error;
mod hex;
mod joining;
mod key;
mod secret;
mod store;
mod tls;
mod token;
mod trust;

pub use authority::{Authority, CERTIFICATE_LIFE, Subject};
pub use certificate::{ClusterId, PeerCertificate, spki_digest};
pub use enrolment::{ClusterKeys, ClusterSettings, Enrolment, GossipKey, Identity};
pub use error::IdentityError;
pub use joining::JoiningKey;
pub use key::NodeKey;
pub use secret::{Digest, Secret};
pub use store::{Store, write_private};
pub use tls::{Credentials, any_server, joiner_config, server_name};
pub use token::{Token, TokenError};
pub use trust::{Register, Registered, SignedRegister, Trust};
