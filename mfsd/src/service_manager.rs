//! What is told to systemd: ready, alive, stopping. Without systemd nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// The daemon answers now; `status` is shown by `systemctl status`.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another status.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The daemon stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says at half the interval that systemd set (WatchdogSec) that the runtime still turns.
pub(crate) fn feed_watchdog(tasks: &TaskTracker, stop: &CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let stop = stop.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(10)));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => tell(&[NotifyState::Watchdog]),
            }
        }
    });
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("the service manager cannot be told: {error}");
    }
}
