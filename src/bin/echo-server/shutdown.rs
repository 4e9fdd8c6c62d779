//! Graceful shutdown: stops accepting, sends what is buffered, closes each connection with a FIN,
//! and then stops the loop. A second request stops the loop immediately, unless it is the same
//! signal just after the first: `timeout(1)` sends each signal twice.
//!
//! Read next: `console.rs`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::cli::{self, Exit};
use echo_reactor::{Connection, Handle, Listener, Reactor, Unavailable};

use crate::echo::Echo;

/// A signal that is repeated so soon is the same request.
const REPETITION: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Stage {
    Serving,
    /// Connections are finishing.
    Draining(Cause),
    /// This signal was the second request.
    Killed(i32),
}

/// What began the shutdown.
#[derive(Clone, Copy)]
enum Cause {
    /// A signal, at this time.
    Signal(i32, Instant),
    /// The command `quit`.
    Operator,
    /// The server can no longer listen on any address.
    NotListening,
}

#[derive(Clone)]
pub struct Shutdown {
    listener: Handle<Listener>,
    grace: Duration,
    stage: Rc<Cell<Stage>>,
}

impl Shutdown {
    /// Prepares the shutdown. It begins by itself when the server can no longer listen on any
    /// address.
    ///
    /// # Errors
    /// The listener is gone.
    pub fn new(
        reactor: &mut Reactor,
        listener: Handle<Listener>,
        grace: Duration,
    ) -> Result<Self, Unavailable> {
        let shutdown = Shutdown { listener, grace, stage: Rc::new(Cell::new(Stage::Serving)) };
        let stopped = shutdown.clone();
        listener.on_stopped(reactor, move |reactor| {
            if let Stage::Serving = stopped.stage.get() {
                stopped.drain(reactor, Cause::NotListening);
            }
        })?;
        Ok(shutdown)
    }

    /// Begins the shutdown, or ends it at once: because of a signal, or of the command `quit`.
    pub fn begin(&self, reactor: &mut Reactor, signal: Option<i32>) {
        let now = reactor.now();
        match (self.stage.get(), signal) {
            (Stage::Serving, Some(signal)) => self.drain(reactor, Cause::Signal(signal, now)),
            (Stage::Serving, None) => self.drain(reactor, Cause::Operator),
            (Stage::Draining(Cause::Signal(first, when)), _)
                if signal == Some(first) && now < when + REPETITION => {}
            (_, Some(signal)) => {
                self.stage.set(Stage::Killed(signal));
                reactor.stop();
            }
            (_, None) => reactor.stop(), // as at the end of the grace time
        }
    }

    /// Returns how the program ends after the loop has stopped.
    pub fn exit(&self) -> Exit {
        match self.stage.get() {
            Stage::Draining(Cause::NotListening) => cli::FAILURE,
            Stage::Serving | Stage::Draining(_) => cli::DONE,
            Stage::Killed(signal) => Exit::Signal(signal),
        }
    }

    /// Returns whether the shutdown has not begun yet.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage.get(), Stage::Serving)
    }

    /// Returns whether open connections may still finish.
    pub fn is_draining(&self) -> bool {
        matches!(self.stage.get(), Stage::Draining(..))
    }

    fn drain(&self, reactor: &mut Reactor, cause: Cause) {
        self.stage.set(Stage::Draining(cause));
        cli::let_stdout_close();
        reactor.call_later(self.grace, Reactor::stop);
        if self.finish_connections(reactor, cause).is_err() {
            reactor.stop(); // without a listener, nothing reports the last connection
        }
    }

    fn finish_connections(&self, reactor: &mut Reactor, cause: Cause) -> Result<(), Unavailable> {
        self.listener.close(reactor)?;
        let connections = reactor.handles::<Connection<Echo>>();
        self.announce(cause, connections.len());
        for connection in connections {
            let _ = connection.enter(reactor, |_, transport| transport.close());
        }
        self.listener.on_closed(reactor, Reactor::stop)
    }

    /// Logs the shutdown. A server that waits for connections looks as if it hangs, so that is a
    /// warning.
    fn announce(&self, cause: Cause, open: usize) {
        let what = format!("shutting down; {} open", cli::counted(open, "connection"));
        if open == 0 || self.grace.is_zero() {
            return log::info!("{what}");
        }
        let request = match cause {
            Cause::Signal(..) => "a second signal",
            Cause::Operator => "a second quit",
            Cause::NotListening => "a signal",
        };
        log::warn!("{what}; waiting for at most {:?}; {request} ends the server at once", self.grace);
    }
}
