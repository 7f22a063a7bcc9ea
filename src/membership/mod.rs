//! Who is in the cluster, as this node sees it. No sockets, no clock.

mod record;
mod view;

pub use record::{Member, MemberState};
pub use view::View;
