//! Remote.
use super::backing::Origin;
use mfs::types::op::{Call, Entry};
use mfs::types::{Errno, NodeId, OpenId};
#[derive(Debug, Clone)]
pub struct Remote;
impl Remote {
    pub async fn call<C: Call>(&self, _o: &Origin<'_>, _call: C) -> Result<C::Output, Errno> {
        Err(Errno::Io)
    }
    pub async fn root(&self, _o: &Origin<'_>) -> Result<Entry, Errno> {
        Err(Errno::Io)
    }
    pub fn new_open(&self) -> OpenId {
        OpenId::FIRST
    }
    pub fn to(&self, _: NodeId) -> Self {
        Self
    }
}
