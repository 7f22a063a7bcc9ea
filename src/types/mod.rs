//! The values every layer speaks: identifiers, names, attributes, flags, errors, operations.
//!
//! Not here: I/O, locks, time sources, generated protocol types. A value of these types is valid by
//! construction, so inner code has no re-checks.

mod attr;
mod caller;
mod errno;
mod feature;
mod flags;
mod ids;
mod lock;
mod name;
mod node;
pub mod op;

pub use attr::{Attr, DataVersion, FileKind, SetAttr, SetTime, StatFs, Timestamp};
pub use caller::{Caller, Capabilities};
pub use errno::Errno;
pub use feature::{KernelFeature, KernelFeatureError};
pub use flags::{
    Access, AccessMode, FallocateMode, Leases, OpenFlags, RenameFlags, SeekWhence, SetXattrMode,
};
pub use ids::{
    Epoch, ExportId, FileId, Incarnation, InodeNo, LockOwner, OpenId, OpenProof, RequestId,
    Sequence, SessionId, Slot, Verifier,
};
pub use lock::ParkingToken;
pub use name::{FileName, NameError, XattrName};
pub use node::{NodeId, NodeIdError, NodeName, NodeNameError, NodeNumber};
