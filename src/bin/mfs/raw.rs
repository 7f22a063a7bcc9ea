//! `Raw`: the caller's terminal, taken over for a program that has one of its own elsewhere.

use std::io;

use anyhow::Context;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The caller's terminal in raw mode; as it was again when this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(Termios);

// === impl Raw ===

impl Raw {
    /// Takes over the terminal of standard input.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let raw = Self(before.clone());
        let mut settings = before;
        settings.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &settings)
            .context("cannot change the terminal's settings")?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
