//! Reading, writing and what else is done with the data of an open file.

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::Export;
use super::impersonate::Impersonation;
use super::open_file::{Body, OpenFile};
use crate::telemetry::metrics as m;
use crate::types::op::{ReadData, Written};
use crate::types::{Errno, FallocateMode, OpenFlags, SeekWhence};

/// What O_DIRECT wants buffers aligned to; enough for every device with pages of 4 KiB.
const DIRECT_ALIGNMENT: usize = 4096;

/// Most bytes that one call copies within the node: it must come back soon enough to notice that the
/// caller has gone.
const MOST_COPIED: u64 = 64 << 20;

impl OpenFile {
    /// Reads up to `size` bytes, [`Export::MAX_IO`] at most; fewer only at the end of the file.
    ///
    /// # Errors
    /// Those of pread(2).
    pub fn read(&self, offset: u64, size: u32) -> Result<ReadData, Errno> {
        let fd = self.descriptor()?;
        let size = size.min(Export::MAX_IO) as usize;
        if self.flags().contains(OpenFlags::DIRECT) {
            return self.read_direct(offset, size);
        }
        let mut buffer = Vec::with_capacity(size.max(1));
        while buffer.len() < size {
            let at = offset.checked_add(buffer.len() as u64).ok_or(Errno::Inval)?;
            match rustix::io::pread(fd, spare_capacity(&mut buffer), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // What was read before an error is an answer; the error comes with the next read.
                Err(_) if !buffer.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(size);
        m::SERVER_READ_BYTES.add(buffer.len() as u64);
        Ok(ReadData { data: buffer.into(), version: None })
    }

    /// Reads if the page cache can answer at once and in full; `None` if it would take the disk, so
    /// that the thread of a runtime may try this first.
    pub fn read_cached(&self, offset: u64, size: u32) -> Option<ReadData> {
        let fd = self.as_fd()?;
        if self.flags().contains(OpenFlags::DIRECT) {
            return None;
        }
        let mut buffer = vec![0; size.min(Export::MAX_IO) as usize];
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let read = rustix::io::preadv2(fd, &mut parts, offset, ReadWriteFlags::NOWAIT).ok()?;
        if read < buffer.len() {
            return None; // the end of the file, or the end of what is cached: the pool finds out
        }
        m::SERVER_READ_BYTES.add(read as u64);
        Some(ReadData { data: buffer.into(), version: None })
    }

    fn read_direct(&self, offset: u64, size: usize) -> Result<ReadData, Errno> {
        let fd = self.descriptor()?;
        let mut buffer = vec![0; size + DIRECT_ALIGNMENT];
        let skip = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let read = rustix::io::pread(fd, &mut buffer[skip..skip + size], offset)?;
        m::SERVER_READ_BYTES.add(read as u64);
        let data = Bytes::from(buffer).slice(skip..skip + read);
        Ok(ReadData { data, version: None })
    }

    /// Writes the bytes; with `OpenFlags::APPEND` at the end of the file, as one system call, wherever
    /// `offset` says. Fewer than given only if the file system has no more room.
    ///
    /// # Errors
    /// Those of pwrite(2).
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<Written, Errno> {
        let fd = self.descriptor()?;
        let data = &data[..data.len().min(Export::MAX_IO as usize)];
        let written = {
            // As who opened it: the kernel takes set-id bits away, and counts quotas and reserved
            // blocks, by the identity of the writing thread.
            let _as_opener = Impersonation::begin(&self.0.opener)?;
            if self.flags().contains(OpenFlags::APPEND) {
                let _position = self.0.position.lock();
                let size = rustix::io::write(fd, data)?;
                let end = rustix::fs::seek(fd, SeekFrom::Current(0))?;
                Written {
                    size: size as u32,
                    offset: end.saturating_sub(size as u64),
                    ..Written::default()
                }
            } else if self.flags().contains(OpenFlags::DIRECT) {
                let mut buffer = vec![0; data.len() + DIRECT_ALIGNMENT];
                let skip = buffer.as_ptr().align_offset(DIRECT_ALIGNMENT);
                let aligned = &mut buffer[skip..skip + data.len()];
                aligned.copy_from_slice(data);
                Written {
                    size: rustix::io::pwrite(fd, aligned, offset)? as u32,
                    offset,
                    ..Written::default()
                }
            } else {
                write_all(fd, offset, data)?
            }
        };
        m::SERVER_WRITTEN_BYTES.add(u64::from(written.size));
        Ok(written)
    }

    /// What was written reaches the disk; of a directory, its names.
    ///
    /// # Errors
    /// Those of fsync(2): also what earlier writes could not report.
    pub fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let Some(fd) = self.as_fd() else { return Ok(()) };
        Ok(if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }?)
    }

    /// Allocates or frees space.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn fallocate(&self, mode: FallocateMode, offset: u64, length: u64) -> Result<(), Errno> {
        let fd = self.descriptor()?;
        let flags = [
            (FallocateMode::KEEP_SIZE, FallocateFlags::KEEP_SIZE),
            (FallocateMode::PUNCH_HOLE, FallocateFlags::PUNCH_HOLE),
            (FallocateMode::COLLAPSE_RANGE, FallocateFlags::COLLAPSE_RANGE),
            (FallocateMode::ZERO_RANGE, FallocateFlags::ZERO_RANGE),
            (FallocateMode::INSERT_RANGE, FallocateFlags::INSERT_RANGE),
            (FallocateMode::UNSHARE_RANGE, FallocateFlags::UNSHARE_RANGE),
        ]
        .into_iter()
        .filter(|(ours, _)| mode.contains(*ours))
        .fold(FallocateFlags::empty(), |set, (_, kernel)| set | kernel);
        let _as_opener = Impersonation::begin(&self.0.opener)?;
        Ok(rustix::fs::fallocate(fd, flags, offset, length)?)
    }

    /// Finds data or a hole at or after `offset`.
    ///
    /// # Errors
    /// Those of lseek(2); ENXIO beyond the end.
    pub fn seek(&self, offset: u64, whence: SeekWhence) -> Result<u64, Errno> {
        let fd = self.descriptor()?;
        let _position = self.0.position.lock();
        if i64::try_from(offset).is_err() {
            return Err(Errno::NxIo);
        }
        Ok(match whence {
            SeekWhence::Data => rustix::fs::seek(fd, SeekFrom::Data(offset))?,
            SeekWhence::Hole => rustix::fs::seek(fd, SeekFrom::Hole(offset))?,
        })
    }

    /// Copies bytes to another open file of this node; perhaps fewer than asked.
    ///
    /// # Errors
    /// Those of copy_file_range(2).
    pub fn copy_range_to(
        &self,
        source_offset: u64,
        target: &Self,
        target_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        let (source, into) = (self.descriptor()?, target.descriptor()?);
        let length = usize::try_from(length.min(MOST_COPIED)).map_err(|_| Errno::Inval)?;
        let (mut from, mut to) = (source_offset, target_offset);
        let _as_opener = Impersonation::begin(&target.0.opener)?;
        let copied =
            rustix::fs::copy_file_range(source, Some(&mut from), into, Some(&mut to), length)?;
        Ok(copied as u64)
    }

    /// A descriptor of it was closed: there is nothing to write back here.
    ///
    /// # Errors
    /// None at present: errors of writes were answered to the writes.
    pub fn flush(&self) -> Result<(), Errno> {
        match self.0.body {
            Body::File(_) | Body::Directory(..) | Body::Barred(_) => Ok(()),
        }
    }
}

/// Writes until all is written or the file system takes no more.
pub(super) fn write_all(
    fd: std::os::fd::BorrowedFd<'_>,
    offset: u64,
    data: &[u8],
) -> Result<Written, Errno> {
    let mut done = 0;
    loop {
        let at = offset.checked_add(done as u64).ok_or(Errno::FBig)?;
        match rustix::io::pwrite(fd, &data[done..], at) {
            Ok(size) => done += size,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
        if done == data.len() {
            break;
        }
    }
    Ok(Written { size: done as u32, offset, ..Written::default() })
}
