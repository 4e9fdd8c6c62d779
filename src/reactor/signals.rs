//! Signals as ordinary callbacks: the self-pipe trick.
//!
//! A signal handler may interrupt anything, so it may do very little. Ours sets a flag and writes
//! one byte into a pipe (here a socket pair). The other end of the pipe is a source like any other,
//! so the user's callback runs in a turn.
//!
//! Invariant: the pair is created once per process and never closed, because a handler may be about
//! to write to it in another thread. Signals belong to a process, so only one reactor at a time
//! handles them.
//!
//! Read next: `../sys.rs`, which installs the handler.

use std::io::{self, Read};
use std::mem;
#[cfg(feature = "cli")]
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Interest;

use super::{Id, Next, Reactor, Ready, Source};
use crate::sys;

static PIPE: OnceLock<(UnixStream, UnixStream)> = OnceLock::new();
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// The reactor's claim on the signals of the process, released on drop.
pub(super) struct Signals {
    pipe: Id,
    registrations: Vec<Registration>,
}

struct Registration {
    signal: i32,
    callback: Id,
    /// Restores the signal's former disposition on drop.
    _disposition: sys::Disposition,
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.registrations.clear();
        CLAIMED.store(false, Ordering::Release);
    }
}

/// The read end of the pipe.
struct SignalPipe(&'static UnixStream);

impl Source for SignalPipe {
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        // Read the bytes before the flags. A signal in between causes a second call, and none is
        // missed.
        let mut bytes = [0; 64];
        while matches!(self.0.read(&mut bytes), Ok(1..)) {}
        let registrations = reactor.signals.iter().flat_map(|signals| &signals.registrations);
        let pending = registrations.filter(|registration| sys::take_pending(registration.signal));
        let callbacks: Vec<Id> = pending.map(|registration| registration.callback).collect();
        for id in callbacks {
            reactor.wake(id);
        }
        Next::Wait
    }

    /// If it is removed while signals are handled, their callbacks are removed, too, because nothing
    /// would call them.
    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        if let Some(signals) = reactor.signals.take_if(|signals| signals.pipe == id) {
            let _ = reactor.deregister(id, self.0); // it stays open
            signals.registrations.iter().for_each(|one| _ = reactor.remove(one.callback));
        }
    }
}

/// The user's callback for one signal.
struct SignalCallback(Box<dyn FnMut(&mut Reactor)>);

impl Source for SignalCallback {
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        (self.0)(reactor);
        Next::Wait
    }

    /// Restores the signal's former disposition. When the last callback is removed, the claim is
    /// released.
    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        if let Some(signals) = &mut reactor.signals {
            signals.registrations.retain(|registration| registration.callback != id);
            reactor.release_signals();
        }
    }
}

/// Waits outside of the loop until one read of the descriptor would not block.
///
/// # Errors
/// `Interrupted` if there is a signal that a turn has to handle. It may have come before this call,
/// so the error of `poll(2)` is not enough.
#[cfg(feature = "cli")]
pub fn wait_until_readable(descriptor: &impl AsFd) -> io::Result<()> {
    let signals = PIPE.get().map(|(read_end, _)| read_end);
    if sys::wait_for_either(descriptor, signals)? { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

impl Reactor {
    /// Calls `f` in a turn after `signal` was raised (asyncio: `add_signal_handler`). Several
    /// signals before that turn cause one call. A second registration for the same signal replaces
    /// the first. When the reactor is dropped, the signal gets its former disposition back.
    ///
    /// # Errors
    /// `ResourceBusy` if another reactor of this process handles signals; `InvalidInput` for a
    /// signal that cannot be caught, see `sigaction(2)`, or that reports a fault of the running
    /// instruction, such as `SIGSEGV`. After an error, nothing has changed.
    pub fn on_signal(&mut self, signal: i32, f: impl FnMut(&mut Reactor) + 'static) -> io::Result<()> {
        // After a handler has returned, the instruction would run and fail again: signal(7).
        if matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL) {
            let text = format!("signal {signal} reports a fault, and cannot be handled later");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let callback = self.insert(SignalCallback(Box::new(f))).id();
        let registrations = self.signals.iter_mut().flat_map(|signals| &mut signals.registrations);
        if let Some(same) = registrations.into_iter().find(|registration| registration.signal == signal) {
            let replaced = mem::replace(&mut same.callback, callback);
            if self.slots.take_queued(replaced).is_some() {
                self.wake(callback); // the signal was raised before
            }
            self.remove(replaced);
            return Ok(());
        }
        let installed = self.claim_signals().and_then(|()| sys::install_handler(signal));
        let registered = installed.map(|disposition| {
            if let Some(signals) = &mut self.signals {
                signals.registrations.push(Registration { signal, callback, _disposition: disposition });
            }
        });
        if registered.is_err() {
            self.release_signals();
            self.remove(callback);
        }
        registered
    }

    /// Releases the claim if no signal is handled.
    fn release_signals(&mut self) {
        if let Some(signals) = self.signals.take_if(|signals| signals.registrations.is_empty()) {
            if let Some((read_end, _)) = PIPE.get() {
                let _ = self.deregister(signals.pipe, read_end); // it stays open
            }
            self.remove(signals.pipe);
        }
    }

    /// Claims the signals of the process, unless this reactor has claimed them already.
    fn claim_signals(&mut self) -> io::Result<()> {
        if self.signals.is_some() {
            return Ok(());
        }
        let (read_end, write_end) = if let Some(pipe) = PIPE.get() {
            pipe
        } else {
            let (read_end, write_end) = UnixStream::pair()?;
            read_end.set_nonblocking(true)?;
            write_end.set_nonblocking(true)?;
            PIPE.get_or_init(|| (read_end, write_end)) // another thread may have been faster
        };
        if CLAIMED.swap(true, Ordering::AcqRel) {
            let text = "another reactor of this process handles signals";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let pipe = self.insert(SignalPipe(read_end)).id();
        self.signals = Some(Signals { pipe, registrations: Vec::new() });
        sys::set_wakeup_fd(write_end);
        self.register(pipe, read_end, Interest::READABLE)
    }
}
