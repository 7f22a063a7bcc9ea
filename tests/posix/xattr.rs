//! getxattr(2), setxattr(2), listxattr(2), removexattr(2).

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::place::{Case, Place};

pub(super) const CASES: &[(&str, Case)] = &[
    ("set_read_listed_removed", set_read_listed_removed),
    ("flags", flags),
    ("sizes", sizes),
    ("name_spaces", name_spaces),
];

fn value(place: &Place<'_>, name: &str) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 65_536];
    let size = getxattr(place.at("f"), name, &mut buffer[..])?;
    buffer.truncate(size);
    Ok(buffer)
}

fn set_read_listed_removed(place: &Place<'_>) {
    std::fs::write(place.at("f"), "").unwrap();
    setxattr(place.at("f"), "user.a", b"one", XattrFlags::empty()).unwrap();
    setxattr(place.at_home("f"), "user.b", b"\0two", XattrFlags::empty()).unwrap();
    assert_eq!(value(place, "user.a").unwrap(), b"one");
    assert_eq!(value(place, "user.b").unwrap(), b"\0two");
    let mut names = vec![0; 1000];
    let size = listxattr(place.at("f"), &mut names[..]).unwrap();
    let mut listed: Vec<_> =
        names[..size].split(|b| *b == 0).filter(|n| n.starts_with(b"user.")).collect();
    listed.sort();
    assert_eq!(listed, [b"user.a", b"user.b"]);
    removexattr(place.at("f"), "user.a").unwrap();
    assert_eq!(value(place, "user.a").unwrap_err(), Errno::NODATA);
    assert_eq!(removexattr(place.at("f"), "user.a").unwrap_err(), Errno::NODATA);
}

fn flags(place: &Place<'_>) {
    std::fs::write(place.at("f"), "").unwrap();
    let set = |flags| setxattr(place.at("f"), "user.a", b"v", flags);
    assert_eq!(set(XattrFlags::REPLACE).unwrap_err(), Errno::NODATA);
    set(XattrFlags::CREATE).unwrap();
    assert_eq!(set(XattrFlags::CREATE).unwrap_err(), Errno::EXIST);
    set(XattrFlags::REPLACE).unwrap();
}

fn sizes(place: &Place<'_>) {
    std::fs::write(place.at("f"), "").unwrap();
    setxattr(place.at("f"), "user.big", &[b'x'; 3000], XattrFlags::empty()).unwrap();
    assert_eq!(value(place, "user.big").unwrap().len(), 3000);
    // Without a buffer the call answers the size.
    let size = "import ctypes; print(ctypes.CDLL(None).getxattr(b'f', b'user.big', None, 0))";
    assert_eq!(place.python(size), "3000");
    assert_eq!(getxattr(place.at("f"), "user.big", &mut [0; 10][..]).unwrap_err(), Errno::RANGE);
    let empty = setxattr(place.at("f"), "user.empty", b"", XattrFlags::empty());
    assert_eq!((empty, value(place, "user.empty")), (Ok(()), Ok(Vec::new())));
}

fn name_spaces(place: &Place<'_>) {
    std::fs::write(place.at("f"), "").unwrap();
    setxattr(place.at("f"), "trusted.a", b"t", XattrFlags::empty()).unwrap();
    assert_eq!(place.run_at_home("getfattr --only-values -n trusted.a f"), "t");
    place.run(
        "chmod 666 f && ! setpriv --reuid=bin --regid=bin --clear-groups getfattr -n trusted.a f",
    );
    place.run("setpriv --reuid=bin --regid=bin --clear-groups setfattr -n user.b -v 1 f");
    place.run(
        "chmod 644 f && ! setpriv --reuid=bin --regid=bin --clear-groups setfattr -n user.b -v 2 f",
    );
}
