//! Signals of `mfs run`: what it ignores, and how it suffers what its program has suffered; its terminal's modes.
#![allow(unsafe_code)]

use mfs::jobs::Modes;

/// The signals that this command was started with ignored: bit n-1 for signal n.
///
/// # Preconditions
/// Nothing has been changed about signals, but that Rust ignores SIGPIPE.
pub(super) fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.unwrap_or(0) & !bit(libc::SIGPIPE)
}

/// The bit of a signal in a set of them.
pub(super) const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// The modes of the terminal that standard input is; `None`: it is none.
pub(super) fn modes() -> Option<Modes> {
    /// As many special characters as the kernel has (`NCCS` of its termios).
    const CHARACTERS: usize = 19;
    // SAFETY: the structure is plain old data for which all zeroes is a value; the call fills it.
    let found = unsafe {
        let mut found: libc::termios = std::mem::zeroed();
        (libc::tcgetattr(libc::STDIN_FILENO, &mut found) == 0).then_some(found)?
    };
    Some(Modes {
        input: found.c_iflag,
        output: found.c_oflag,
        control: found.c_cflag,
        local: found.c_lflag,
        characters: found.c_cc.iter().copied().take(CHARACTERS).collect(),
    })
}

/// Ignores a signal.
pub(super) fn ignore(signal: i32) {
    // SAFETY: no handler is installed; a number that cannot be ignored is refused.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sends a signal to all others of this process group.
pub(super) fn tell_group(signal: i32) {
    with(signal, libc::SIG_IGN, || {
        // SAFETY: no pointer is involved.
        unsafe { libc::kill(0, signal) };
    });
}

/// Has a signal do to this process what it does by default. Answers if it ends nobody, or when this process was
/// continued.
pub(super) fn suffer(signal: i32) {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    with(signal, libc::SIG_DFL, || {
        // SAFETY: the structure lives longer than the call; no other pointer is involved. There is to be no
        // image of this process's memory where there would be one of the program's.
        unsafe {
            if is_deadly(signal) {
                libc::setrlimit(libc::RLIMIT_CORE, &none);
            }
            libc::raise(signal);
        }
    });
}

/// Whether a signal makes an image of a process's memory by default (signal(7)).
fn is_deadly(signal: i32) -> bool {
    [
        libc::SIGQUIT,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGSYS,
    ]
    .contains(&signal)
}

/// Does something while a signal has that disposition.
fn with(signal: i32, disposition: libc::sighandler_t, act: impl FnOnce()) {
    // SAFETY: the structures are plain old data for which all zeroes is a value, and live longer than the
    // calls. What is put back is what was there: a handler of the runtime's, or none. SIGKILL and SIGSTOP
    // have no disposition, and do what they do.
    unsafe {
        let mut wanted: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        wanted.sa_sigaction = disposition;
        let changed = libc::sigaction(signal, &wanted, &mut before) == 0;
        act();
        if changed {
            libc::sigaction(signal, &before, std::ptr::null_mut());
        }
    }
}
