//! Standard input of `mfs run`, on its way into the job.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use mfs_proto::v1;
use mfs_proto::v1::job_input::Kind as Input;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{Semaphore, mpsc};

use super::run::message;
use super::screen::{LOOK_AGAIN, is_background};

/// Most bytes of one message.
const PIECE: usize = 32 << 10;

/// Carries it, on a thread that ends with this command.
pub(super) fn take(inputs: mpsc::Sender<v1::JobInput>, window: Arc<Semaphore>) {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        loop {
            wait_until_it_may_be_read();
            let read = match io::stdin().lock().read(&mut piece) {
                Ok(length @ 1..) => Input::Input(Bytes::copy_from_slice(&piece[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Between the look and the reading somebody else was given the terminal (EIO, read(2)).
                Err(_) if is_background(io::stdin()) => continue,
                Ok(_) | Err(_) => Input::InputEnd(v1::InputEnd {}),
            };
            if let Input::Input(bytes) = &read {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                match runtime.block_on(window.acquire_many(length)) {
                    Ok(taken) => taken.forget(),
                    Err(_) => return,
                }
            }
            let is_end = matches!(read, Input::InputEnd(_));
            if inputs.blocking_send(message(read)).is_err() || is_end {
                return;
            }
        }
    });
}

/// Waits until there is something to read that this command may read: it is no terminal, or this command is in
/// its foreground.
fn wait_until_it_may_be_read() {
    let pause = LOOK_AGAIN.try_into().unwrap_or_default();
    loop {
        let stdin = io::stdin();
        let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
        match is_background(&stdin) {
            true => drop(poll(&mut [], Some(&pause))),
            false if poll(&mut polled, Some(&pause)) != Ok(0) => return,
            false => {}
        }
    }
}
