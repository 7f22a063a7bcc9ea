//! Named points in the code at which a test has this process killed or stopped, or its connection cut: what
//! that leaves behind is tried at each of them on purpose, and not by luck.
//!
//! They exist in builds with debug assertions only. A release build has no point, and no way to arm one.
//!
//! Which are armed is one text (`MFS_FAIL`, which `main` reads), such as `applied:Rename=kill` or
//! `send:Write@3=cut,recalled=stop`: the point, an operation if not any, the how manieth time it is reached,
//! and what happens then.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// Where a process can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// mfsd is about to execute an operation.
    Apply,
    /// mfsd has executed an operation, and told nobody.
    Applied,
    /// mfsd is about to hand an answer to the transport.
    Reply,
    /// The transport has taken an answer. It may have left the machine or not.
    Replied,
    /// mfsd is about to write down who may hold leases.
    Journal,
    /// mfsd has written down who may hold leases.
    Journaled,
    /// mfsd has been admitted to a cluster, and not written it down.
    Admitted,
    /// A mount is about to send a request.
    Send,
    /// A mount has handed a request to the transport.
    Sent,
    /// A mount has received a message, and not looked at it.
    Received,
    /// A mount has forgotten what a recall asks for, and has not said so.
    Recalled,
}

/// What happens at an armed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// As `kill -9` does.
    Kill,
    /// As `kill -STOP` does: the process stands still until it is told to go on.
    Stop,
    /// The connection that the point is about breaks.
    Cut,
}

/// A point that is armed. It goes off once.
#[derive(Debug)]
struct Armed {
    point: Point,
    operation: Option<String>,
    /// How many times more it must be reached.
    left: AtomicU32,
    fate: Fate,
}

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// Arms the points that a text names; once in a process. A release build takes no notice of it.
///
/// # Errors
/// A sentence, if the text is not understood.
pub fn arm(text: &str) -> Result<(), String> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let armed: Vec<Armed> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    ARMED.set(armed).map_err(|_| "fail points are armed once".to_owned())
}

/// This point is reached in the course of an operation, whose name `operation` is; empty if of none.
pub fn reach(point: Point, operation: impl FnOnce() -> &'static str) {
    let _is_cut = cuts(point, operation); // no point but those of a connection is armed to be cut
}

/// As [`reach`], at a point of a connection. Whether to cut it here.
#[must_use]
pub fn cuts(point: Point, operation: impl FnOnce() -> &'static str) -> bool {
    if !cfg!(debug_assertions) {
        return false;
    }
    let Some(armed) = ARMED.get() else { return false };
    let operation = operation();
    let mut is_cut = false;
    for armed in armed.iter().filter(|armed| armed.is_due(point, operation)) {
        tracing::warn!("fail point {point} of {operation:?}: {:?}", armed.fate);
        let signal = match armed.fate {
            Fate::Kill => Signal::KILL,
            Fate::Stop => Signal::STOP,
            Fate::Cut => {
                is_cut = true;
                continue;
            }
        };
        // A signal to the process itself is delivered before the call returns, unless it is forbidden.
        let _ = kill_process(getpid(), signal);
    }
    is_cut
}

// === impl Point ===

impl Point {
    const ALL: [Self; 11] = [
        Self::Apply,
        Self::Applied,
        Self::Reply,
        Self::Replied,
        Self::Journal,
        Self::Journaled,
        Self::Admitted,
        Self::Send,
        Self::Sent,
        Self::Received,
        Self::Recalled,
    ];

    /// Whether it is about one connection, which can be cut.
    const fn is_of_connection(self) -> bool {
        matches!(self, Self::Send | Self::Sent | Self::Received)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply",
            Self::Applied => "applied",
            Self::Reply => "reply",
            Self::Replied => "replied",
            Self::Journal => "journal",
            Self::Journaled => "journaled",
            Self::Admitted => "admitted",
            Self::Send => "send",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Recalled => "recalled",
        })
    }
}

// === impl Armed ===

impl Armed {
    /// Counts a point that is reached, if it is this one. Whether this is the time.
    fn is_due(&self, point: Point, operation: &str) -> bool {
        let meant = self.operation.as_ref().is_none_or(|wanted| wanted == operation);
        self.point == point && meant && self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl FromStr for Armed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no fail point; write applied:Rename=kill or send@3=stop");
        let (place, fate) = text.split_once('=').ok_or_else(wrong)?;
        let (place, count) = place.split_once('@').unwrap_or((place, "1"));
        let (name, operation) = match place.split_once(':') {
            Some((name, operation)) => (name, Some(operation.to_owned())),
            None => (place, None),
        };
        let left = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
        let point = Point::ALL.into_iter().find(|point| point.to_string() == name);
        let point = point.ok_or_else(wrong)?;
        Ok(Self {
            point,
            operation,
            left: AtomicU32::new(left),
            fate: match fate {
                "kill" => Fate::Kill,
                "stop" => Fate::Stop,
                "cut" if point.is_of_connection() => Fate::Cut,
                _ => return Err(wrong()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_goes_off_once_and_at_its_time() {
        let armed: Armed = "applied:Rename@2=kill".parse().unwrap();
        let reached = [
            (Point::Apply, "Rename"),
            (Point::Applied, "Unlink"),
            (Point::Applied, "Rename"),
            (Point::Applied, "Rename"),
            (Point::Applied, "Rename"),
        ];
        let due = reached.map(|(point, operation)| armed.is_due(point, operation));
        assert_eq!(due, [false, false, false, true, false]);
        let any: Armed = "recalled=stop".parse().unwrap();
        assert_eq!(any.fate, Fate::Stop);
        assert!(any.is_due(Point::Recalled, ""));
    }

    #[test]
    fn what_means_no_point_is_refused() {
        for text in ["", "applied", "applied=", "no=kill", "send@0=kill", "send@x=kill", "=kill"] {
            assert!(text.parse::<Armed>().is_err(), "{text}");
        }
        for point in Point::ALL {
            assert!(format!("{point}=kill").parse::<Armed>().is_ok());
            let cut = format!("{point}=cut").parse::<Armed>();
            assert_eq!(cut.is_ok(), point.is_of_connection(), "{point}");
        }
    }
}
