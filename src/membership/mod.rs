//! Who is in the cluster, as this node sees it. No sockets, no clock.

mod endpoint;
mod record;
mod roster;
mod seal;
mod view;

pub use endpoint::{Endpoint, Tag};
pub use record::{Member, MemberState};
pub use roster::{Admitted, Roster, RosterDigest};
pub use seal::{GossipKey, Keyring, SEAL_OVERHEAD};
pub use view::View;
