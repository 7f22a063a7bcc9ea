//! Names: one component of a path, and the name of an extended attribute.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;

use super::Errno;

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`. Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Bytes);

/// The name of an extended attribute: 1 to 255 bytes without NUL, `namespace.rest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XattrName(Bytes);

/// Why bytes are not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("a name must not be empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a name has at most 255 bytes")]
    TooLong,
    /// `.` or `..`, a slash or a NUL.
    #[error("a name must not be . or .. and must hold neither / nor NUL")]
    Invalid,
}

/// What both kinds of name have in common, once each has been checked in its own way.
macro_rules! names {
    ($($name:ident,)+) => {$(
        impl $name {
            /// Checks and copies a name that the operating system gave.
            pub fn from_os(name: &OsStr) -> Result<Self, NameError> {
                Self::parse(Bytes::copy_from_slice(name.as_bytes()))
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &Bytes {
                &self.0
            }

            /// As the system calls take it.
            pub fn as_os(&self) -> &OsStr {
                OsStr::from_bytes(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.as_os())
            }
        }
    )+};
}

names! {
    FileName,
    XattrName,
}

// === impl FileName ===

impl FileName {
    /// Longest name, bytes (NAME_MAX).
    pub const MAX_LEN: usize = 255;

    /// Checks and takes the bytes.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_length(&bytes)?;
        let reserved = &bytes[..] == b"." || &bytes[..] == b"..";
        if reserved || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(NameError::Invalid);
        }
        Ok(Self(bytes))
    }
}

// === impl XattrName ===

impl XattrName {
    /// Longest name, bytes (XATTR_NAME_MAX).
    pub const MAX_LEN: usize = 255;

    /// Checks and takes the bytes.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check_length(&bytes)?;
        if bytes.contains(&0) {
            return Err(NameError::Invalid);
        }
        Ok(Self(bytes))
    }
}

// === impl NameError ===

impl NameError {
    /// What the kernel itself says of such a name.
    pub const fn errno(self) -> Errno {
        match self {
            Self::Empty => Errno::NoEnt,
            Self::TooLong => Errno::NameTooLong,
            Self::Invalid => Errno::Inval,
        }
    }
}

impl From<NameError> for Errno {
    fn from(error: NameError) -> Self {
        error.errno()
    }
}

fn check_length(bytes: &[u8]) -> Result<(), NameError> {
    match bytes.len() {
        0 => Err(NameError::Empty),
        1..=FileName::MAX_LEN => Ok(()),
        _ => Err(NameError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_kernel_takes() {
        for name in [&b"a"[..], b"...", b".hidden", b"\xff\xfe", b"with space", &[b'x'; 255]] {
            assert!(FileName::parse(name.to_vec()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_would_leave_the_directory() {
        for (name, error) in [
            (&b""[..], NameError::Empty),
            (b".", NameError::Invalid),
            (b"..", NameError::Invalid),
            (b"a/b", NameError::Invalid),
            (b"/", NameError::Invalid),
            (b"a\0b", NameError::Invalid),
            (&[b'x'; 256], NameError::TooLong),
        ] {
            assert_eq!(FileName::parse(name.to_vec()), Err(error), "{name:?}");
        }
    }
}
