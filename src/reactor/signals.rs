//! Signals as ordinary callbacks: the self-pipe trick.
//!
//! A signal handler may interrupt anything, so it may do next to nothing. Ours raises a flag and
//! writes one byte into a pipe (here a socket pair); its other end is a source like any other, and
//! what the user wants done is done in a turn.
//!
//! Invariant: the pair is made once per process and never closed, because a handler may be about to
//! write to it in another thread. Signals belong to a process, so one reactor at a time has them.
//!
//! Read next: `../sys.rs`, which installs the handler.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Interest;

use super::{Handle, Id, Next, Reactor, Ready, Source};
use crate::sys;

static PIPE: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The reactor's claim on the signals of the process.
pub(super) struct Signals {
    caught: Vec<Caught>,
}

struct Caught {
    signal: i32,
    action: Handle<Action>,
    /// Gives the signal its former meaning back when dropped.
    _disposition: sys::Disposition,
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.caught.clear();
        TAKEN.store(false, Ordering::Release);
    }
}

/// The reading end of the pipe.
struct Alarm {
    pipe: &'static UnixStream,
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Source for Alarm {
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        // First the bytes, then the flags: a signal between the two is seen twice, never missed.
        let mut bytes = [0; 64];
        while matches!(self.pipe.read(&mut bytes), Ok(n) if n > 0) {}
        let Some(signals) = &reactor.signals else { return Next::Wait };
        let raised: Vec<Id> = signals
            .caught
            .iter()
            .filter(|caught| sys::take_raised(caught.signal))
            .map(|caught| caught.action.id())
            .collect();
        for id in raised {
            reactor.wake(id);
        }
        Next::Wait
    }
}

/// What the user wants done about one signal.
struct Action(Box<dyn FnMut(&mut Reactor)>);

impl Source for Action {
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        (self.0)(reactor);
        Next::Wait
    }
}

impl Reactor {
    /// Calls `f` in a turn after `signal` was raised (asyncio: `add_signal_handler`); several
    /// before that turn are one. A second call for the same signal takes the place of the first.
    /// When the reactor is dropped, the signal means again what it meant before.
    ///
    /// # Errors
    /// `ResourceBusy` when another reactor of the process has the signals; `InvalidInput` for a
    /// signal that cannot be caught, see `sigaction(2)`.
    pub fn on_signal(&mut self, signal: i32, f: impl FnMut(&mut Reactor) + 'static) -> io::Result<()> {
        if self.signals.is_none() {
            self.claim_signals()?;
        }
        let disposition = sys::catch(signal)?;
        let action = self.insert(Action(Box::new(f)));
        let Some(signals) = &mut self.signals else { return Ok(()) };
        if let Some(caught) = signals.caught.iter_mut().find(|caught| caught.signal == signal) {
            // Keep the older disposition: ours would restore our own handler.
            disposition.forget();
            let replaced = std::mem::replace(&mut caught.action, action);
            self.remove(replaced.id());
        } else {
            signals.caught.push(Caught { signal, action, _disposition: disposition });
        }
        Ok(())
    }

    fn claim_signals(&mut self) -> io::Result<()> {
        if PIPE.get().is_none() {
            let (reading, writing) = UnixStream::pair()?;
            reading.set_nonblocking(true)?;
            writing.set_nonblocking(true)?;
            // If another thread was faster, its pair serves.
            let _ = PIPE.set((reading, writing));
        }
        let Some((reading, writing)) = PIPE.get() else { return Ok(()) };
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another reactor of this process has the signals",
            ));
        }
        self.signals = Some(Signals { caught: Vec::new() });
        sys::ring_on_signal(writing.as_raw_fd());
        if let Err(error) = self.add_lent(Alarm { pipe: reading }, Interest::READABLE) {
            self.signals = None;
            return Err(error);
        }
        Ok(())
    }
}
