//! The processes of a job, as /proc shows them (proc(5)).

use std::fs::{self, File};
use std::io::{self, Read};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, tee,
};
use rustix::process::{Pid, Signal, kill_process};

/// All processes of a job, by the number of its first one: every other descends from it.
pub(super) fn of(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut next = 0;
    while next < found.len() {
        let process = found[next];
        next += 1;
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Whether a process of this number is there.
pub(super) fn is_there(process: u32) -> bool {
    fs::exists(format!("/proc/{process}")).unwrap_or(true)
}

/// What the processes of a job use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Time of processors, also of those that have ended, microseconds.
    pub(super) cpu_us: u64,
    /// Memory, bytes.
    pub(super) memory: u64,
}

/// What a job uses.
pub(super) fn used(first: u32) -> Used {
    let page = rustix::param::page_size() as u64;
    let tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut used = Used::default();
    for process in of(first) {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        used.cpu_us += ticks(&stat).unwrap_or(0).saturating_mul(tick);
        let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
        let resident = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        used.memory += resident.unwrap_or(0).saturating_mul(page);
    }
    used
}

/// What ties a job to this node, a few words; `None`: nothing is known that does.
pub(super) fn tied(first: u32) -> Option<String> {
    of(first).into_iter().find_map(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.is_some_and(|tracer| tracer.trim() != "0") {
            return Some("is traced".to_owned());
        }
        let connected = connections(process);
        let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.filter_map(|target| tie(target.to_str()?, &connected)).next()
    })
}

/// What ties whoever has this open (proc_pid_fd(5)).
fn tie(target: &str, connected: &[String]) -> Option<String> {
    const EVERYWHERE: [&str; 10] =
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/", "shm/", ".mfs-init"];
    if let Some(socket) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
        return connected.iter().any(|other| other == socket).then(|| "TCP".to_owned());
    }
    match target {
        "anon_inode:[io_uring]" => Some("io_uring".to_owned()),
        "anon_inode:[perf_event]" => Some("perf".to_owned()),
        "anon_inode:bpf-prog" | "anon_inode:bpf-map" => Some("bpf".to_owned()),
        "anon_inode:[userfaultfd]" => Some("userfaultfd".to_owned()),
        _ => {
            let device = target.strip_prefix("/dev/")?;
            let moves = EVERYWHERE.iter().any(|known| match known.strip_suffix('/') {
                Some(_) => device.starts_with(known),
                None => device == *known,
            });
            (!moves).then(|| target.to_owned())
        }
    }
}

/// The sockets of its network that are connected by TCP, by their inode numbers (proc_pid_net(5)).
fn connections(process: u32) -> Vec<String> {
    const ESTABLISHED: &str = "01";
    let tables = ["tcp", "tcp6"].map(|table| {
        fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default()
    });
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let connected = lines.filter_map(|line| {
        let mut fields = line.split_whitespace().skip(3);
        fields.next().filter(|state| *state == ESTABLISHED)?;
        fields.nth(5).map(str::to_owned)
    });
    connected.collect()
}

/// The time of processors in `/proc/PID/stat`, with that of children that were waited for, in ticks.
fn ticks(stat: &str) -> Option<u64> {
    let times = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

/// A process and its ancestors, the nearest first.
pub(super) fn lineage(process: u32) -> impl Iterator<Item = u32> {
    /// A loop through a number that was used again must end.
    const MOST: usize = 1_024;
    let parent = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        if parent == 0 { None } else { Some(parent) }
    };
    std::iter::successors(Some(process), parent).take(MOST)
}

/// The number of a process's pid namespace (namespaces(7)).
pub(super) fn namespace(process: u32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|file| file.ino())
}

/// The number that a process has in its own namespace.
pub(super) fn inner_number(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().last()?.parse().ok()
}

/// Those that are stopped by a signal.
pub(super) fn stopped(first: u32) -> Vec<u32> {
    let mut all = of(first);
    all.retain(|process| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state(&stat) == Some('T')
    });
    all
}

/// Lets all but these go on. Who was stopped last goes on first: a parent that waits finds its child running.
pub(super) fn go_on(first: u32, but: &[u32]) {
    let all = of(first);
    for process in all.iter().rev().filter(|process| !but.contains(process)) {
        signal(*process, Signal::CONT);
    }
}

/// Ends all, by the first.
pub(super) fn end(first: u32) {
    signal(first, Signal::KILL);
}

/// What lies in a pipe that they read, and is left there.
///
/// # Preconditions
/// None of them runs, and nobody writes.
pub(super) fn unread(first: u32, pipe: u64) -> io::Result<Vec<u8>> {
    let Some(pipe) = of(first).into_iter().find_map(|process| reads(process, pipe)) else {
        // Nobody can read it any more.
        return Ok(Vec::new());
    };
    let length = rustix::io::ioctl_fionread(&pipe)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(Vec::new());
    }
    // What is copied by tee(2) stays where it was. Pages that are not full take as many places as full ones.
    let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    fcntl_setpipe_size(&to, fcntl_getpipe_size(&pipe)?)?;
    if tee(&pipe, &to, length, SpliceFlags::NONBLOCK)? != length {
        return Err(io::Error::other("what it has not read yet cannot be taken along"));
    }
    drop(to);
    let mut bytes = Vec::with_capacity(length);
    File::from(from).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The pipe with this number, if the process has it open; opened anew (proc_pid_fd(5)).
fn reads(process: u32, pipe: u64) -> Option<File> {
    let wanted = format!("pipe:[{pipe}]");
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let found = open.flatten().find(|entry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
    })?;
    File::open(found.path()).ok()
}

fn signal(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal); // it may have ended
    }
}

/// The state in `/proc/PID/stat`: behind the name, which may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_and_their_states_read() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        while of(child.id()).len() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(of(child.id())[0], child.id());
        assert!(stopped(child.id()).is_empty());
        for process in of(child.id()) {
            signal(process, Signal::KILL);
        }
        child.wait().unwrap();
        assert_eq!(state("17 (a ) b) T 1 2"), Some('T'));
        assert_eq!(state(""), None);
        assert!(used(std::process::id()).memory > 0);
        assert_eq!(ticks("7 (a b) S 1 2 3 4 5 6 7 8 9 10 20 30 40 50 60"), Some(140));
        assert_eq!(ticks("7 (a b) S 1"), Some(0));
    }

    #[test]
    fn what_ties_a_job_is_named() {
        let connected = ["17".to_owned()];
        let tied = |target: &str| tie(target, &connected);
        for free in
            ["/dev/null", "/dev/pts/0", "/home/dev", "pipe:[17]", "socket:[18]", "/dev/shm/x"]
        {
            assert_eq!(tied(free), None, "{free}");
        }
        assert_eq!(tied("/dev/sda").as_deref(), Some("/dev/sda"));
        assert_eq!(tied("socket:[17]").as_deref(), Some("TCP"));
        assert_eq!(tied("anon_inode:[io_uring]").as_deref(), Some("io_uring"));
    }

    #[test]
    fn what_lies_in_a_pipe_is_read_and_left_there() {
        use std::io::Write;
        use std::os::unix::fs::MetadataExt;
        let (mut here, mut to) = std::io::pipe().unwrap();
        to.write_all(b"un").unwrap();
        to.write_all(b"read").unwrap();
        let number =
            fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&here)));
        let number = number.unwrap().ino();
        assert_eq!(unread(std::process::id(), number).unwrap(), b"unread");
        assert_eq!(unread(std::process::id(), number + 1_000_000).unwrap(), b"");
        drop(to);
        let mut left = Vec::new();
        here.read_to_end(&mut left).unwrap();
        assert_eq!(left, b"unread");
    }
}
