//! Generates the messages and stubs from `mfs/v1/*.proto` without a protoc, with protox.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 1] = ["mfs/v1/file.proto"];
    println!("cargo:rerun-if-changed=mfs");
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
