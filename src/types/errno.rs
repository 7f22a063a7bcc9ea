//! `Errno`: the errors of a file system, with the protocol's own codes.
//!
//! The wire never carries a platform's errno numbers: they differ between architectures. Each error
//! has a code of the protocol (`ErrorCode` in `types.proto`, the same numbers as here) and a number
//! of this platform. Both translations are total; what is not in the table is `Io`, as the kernel
//! itself does with errors it does not know.

/// Declares the enum and both translations from one table, so that they cannot disagree.
macro_rules! errnos {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $libc:ident;)+) => {
        /// An error of a file operation. `code()` is its number on the wire, `raw()` this platform's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Errno {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Errno {
            /// Every error of the table, in the order of its codes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// This platform's number, as `errno(3)` has it.
            pub const fn raw(self) -> i32 {
                match self { $(Self::$name => libc::$libc,)+ }
            }

            /// The symbol of `errno(3)`, for messages.
            pub const fn symbol(self) -> &'static str {
                match self { $(Self::$name => stringify!($libc),)+ }
            }

            /// The error with this number on this platform; `Io` for a number not in the table.
            pub const fn from_raw(raw: i32) -> Self {
                match raw { $(libc::$libc => Self::$name,)+ _ => Self::Io }
            }

            /// The error with this code on the wire, if the table has it.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

errnos! {
    /// Operation not permitted.
    Perm = 1, EPERM;
    /// No such file or directory.
    NoEnt = 2, ENOENT;
    /// Interrupted: the caller had a signal pending.
    Intr = 3, EINTR;
    /// Input/output error.
    Io = 4, EIO;
    /// No such device or address (also: SEEK_DATA beyond the end).
    NxIo = 5, ENXIO;
    /// Argument list too long (also: an extended attribute's value).
    TooBig = 6, E2BIG;
    /// Bad file descriptor: not open in the mode that is needed.
    BadF = 7, EBADF;
    /// Try again: a lock is held by another.
    Again = 8, EAGAIN;
    /// Out of memory.
    NoMem = 9, ENOMEM;
    /// Permission denied.
    Access = 10, EACCES;
    /// Bad address.
    Fault = 11, EFAULT;
    /// Device or resource busy.
    Busy = 12, EBUSY;
    /// File exists.
    Exist = 13, EEXIST;
    /// Cross-device link.
    XDev = 14, EXDEV;
    /// No such device.
    NoDev = 15, ENODEV;
    /// Not a directory.
    NotDir = 16, ENOTDIR;
    /// Is a directory.
    IsDir = 17, EISDIR;
    /// Invalid argument.
    Inval = 18, EINVAL;
    /// Too many open files in the system.
    NFile = 19, ENFILE;
    /// Too many open files of this process.
    MFile = 20, EMFILE;
    /// Not a terminal: the file has no such control.
    NoTty = 21, ENOTTY;
    /// Text file busy.
    TxtBsy = 22, ETXTBSY;
    /// File too large.
    FBig = 23, EFBIG;
    /// No space left on device.
    NoSpc = 24, ENOSPC;
    /// Illegal seek.
    SPipe = 25, ESPIPE;
    /// Read-only file system.
    RoFs = 26, EROFS;
    /// Too many links.
    MLink = 27, EMLINK;
    /// Broken pipe.
    Pipe = 28, EPIPE;
    /// Numerical argument out of domain.
    Dom = 29, EDOM;
    /// Numerical result out of range (also: a buffer too small for an attribute).
    Range = 30, ERANGE;
    /// Resource deadlock avoided.
    Deadlk = 31, EDEADLK;
    /// File name too long.
    NameTooLong = 32, ENAMETOOLONG;
    /// No locks available.
    NoLck = 33, ENOLCK;
    /// Function not implemented by the file system.
    NoSys = 34, ENOSYS;
    /// Directory not empty.
    NotEmpty = 35, ENOTEMPTY;
    /// Too many symbolic links.
    Loop = 36, ELOOP;
    /// No data: the extended attribute does not exist.
    NoData = 37, ENODATA;
    /// Timer expired.
    Time = 38, ETIME;
    /// Object is remote.
    Remote = 39, EREMOTE;
    /// Communication error on send.
    Comm = 40, ECOMM;
    /// Protocol error.
    Proto = 41, EPROTO;
    /// Value too large for the data type.
    Overflow = 42, EOVERFLOW;
    /// Operation not supported.
    OpNotSupp = 43, EOPNOTSUPP;
    /// Connection timed out.
    TimedOut = 44, ETIMEDOUT;
    /// Connection refused.
    ConnRefused = 45, ECONNREFUSED;
    /// Host is down.
    HostDown = 46, EHOSTDOWN;
    /// No route to host.
    HostUnreach = 47, EHOSTUNREACH;
    /// Stale file handle: the file is truly gone.
    Stale = 48, ESTALE;
    /// Structure needs cleaning: the file system is damaged.
    Uclean = 49, EUCLEAN;
    /// Quota exceeded.
    DQuot = 50, EDQUOT;
    /// Operation cancelled.
    Canceled = 51, ECANCELED;
    /// Required key not available (an encrypted file's).
    NoKey = 52, ENOKEY;
    /// Key was rejected.
    KeyRejected = 53, EKEYREJECTED;
    /// Transport endpoint is not connected.
    NotConn = 54, ENOTCONN;
    /// Too many users.
    Users = 55, EUSERS;
    /// Bad message: a checksum of the file system does not match.
    BadMsg = 56, EBADMSG;
    /// Remote I/O error.
    RemoteIo = 57, EREMOTEIO;
    /// No such process.
    Srch = 58, ESRCH;
    /// Machine is not on the network: the cluster's membership refuses it.
    NoNet = 59, ENONET;
}

impl Errno {
    /// The error of a failed system call.
    pub fn from_io(error: &std::io::Error) -> Self {
        error.raw_os_error().map_or(Self::Io, Self::from_raw)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.symbol(), std::io::Error::from_raw_os_error(self.raw()))
    }
}

impl std::error::Error for Errno {}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self::from_io(&error)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self::from_raw(error.raw_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_both_translations() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_code(errno as u32), Some(errno));
            assert_eq!(Errno::from_raw(errno.raw()), errno, "{errno}");
        }
    }

    #[test]
    fn unknown_numbers_are_io_here_and_nothing_on_the_wire() {
        assert_eq!(Errno::from_raw(12_345), Errno::Io);
        assert_eq!(Errno::from_raw(0), Errno::Io);
        assert_eq!(Errno::from_code(0), None);
        assert_eq!(Errno::from_code(u32::MAX), None);
    }
}
