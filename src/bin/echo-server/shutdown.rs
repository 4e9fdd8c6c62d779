//! The end, in order: no newcomers, what is owed is sent, each connection is ended with a FIN, and then
//! the loop stops. The second time it is asked for, at once.
//!
//! Read next: `console.rs`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::{Connection, Handle, Listener, Reactor};

use crate::echo::Echo;

/// What the next signal means.
#[derive(Clone, Copy)]
enum Stage {
    Serving,
    /// Connections are finishing.
    Draining,
    /// A second signal came.
    Killed(i32),
}

#[derive(Clone)]
pub struct Shutdown {
    listener: Handle<Listener>,
    grace: Duration,
    stage: Rc<Cell<Stage>>,
}

impl Shutdown {
    pub fn new(listener: Handle<Listener>, grace: Duration) -> Self {
        Shutdown { listener, grace, stage: Rc::new(Cell::new(Stage::Serving)) }
    }

    /// A signal came, or a command that is as good as one.
    pub fn begin(&self, reactor: &mut Reactor, signal: i32) {
        match self.stage.get() {
            Stage::Serving => {
                self.stage.set(Stage::Draining);
                self.finish_connections(reactor);
                reactor.call_later(self.grace, Reactor::stop);
            }
            Stage::Draining | Stage::Killed(_) => {
                self.stage.set(Stage::Killed(signal));
                reactor.stop();
            }
        }
    }

    /// The signal that ended it, if it did not end in order.
    pub fn killed_by(&self) -> Option<i32> {
        match self.stage.get() {
            Stage::Killed(signal) => Some(signal),
            Stage::Serving | Stage::Draining => None,
        }
    }

    fn finish_connections(&self, reactor: &mut Reactor) {
        Listener::close(reactor, self.listener);
        let connections = reactor.all::<Connection<Echo>>();
        log::info!("shutting down, {} connections are open", connections.len());
        for connection in connections {
            Connection::enter(reactor, connection, |_, transport| transport.close());
        }
        Listener::when_closed(reactor, self.listener, Reactor::stop);
    }
}
