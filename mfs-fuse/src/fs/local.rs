//! Direct access.
use super::backing::Origin;
use mfs::types::op::{Call, Entry, Operation, Outcome};
use mfs::types::{Errno, OpenId};
#[derive(Debug)]
pub struct Local;
#[derive(Debug)]
pub struct LocalOpen(std::os::fd::OwnedFd);
impl LocalOpen {
    pub fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.0.as_fd()
    }
}
impl Local {
    pub async fn call<C: Call>(&self, _o: &Origin<'_>, call: C) -> Result<C::Output, Errno> {
        let _op: Operation = call.into();
        C::answer(Outcome::Done(())).ok_or(Errno::Io)
    }
    pub async fn root(&self) -> Result<Entry, Errno> {
        Err(Errno::Io)
    }
    pub fn new_open(&self) -> OpenId {
        OpenId::FIRST
    }
    pub fn find(&self, _: OpenId) -> Option<LocalOpen> {
        None
    }
}
