//! Who is in the cluster, as this node sees it. No sockets, no clock.
//!
//! [`Core`] is the machine; what surrounds it are its parts. docs/MEMBERSHIP.md tells how it behaves, with
//! figures.

mod beacon;
mod core;
mod detector;
mod doubt;
mod endpoint;
mod record;
mod roster;
mod rumour;
mod seal;
mod timers;
mod view;

pub use beacon::{BEACON_LEN, Beacon, ClusterHash};
pub use core::{Action, Core, CoreSettings, Event, Moment};
pub use detector::MAX_FRAME;
pub use doubt::Contact;
pub use endpoint::{Endpoint, Tag};
pub use record::{Member, MemberState};
pub use roster::{Admitted, Roster, RosterDigest};
pub use seal::{GossipKey, Keyring, SEAL_OVERHEAD};
pub use view::View;
