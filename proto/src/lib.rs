//! The wire protocol of mfs, generated from `proto/mfs/v1/*.proto`; the comments there are its manual.
#![forbid(unsafe_code)]

/// Version 1 of the protocol.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("mfs.v1");
}

/// All definitions with their comments, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
