//! The observed loop: an echo server in a thread of its own.
//!
//! Invariant: the page acts on this loop only by calls through its `Remote`. Such a call is an
//! ordinary event, so it is visible.
//!
//! Look at `run`: it is an ordinary loop with an observer.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use echo_reactor::{
    Address, Connection, Handle, Id, ListenOptions, ListeningSocket, Protocol, Reactor, Remote, Timer,
    Transport, create_server_with_sockets,
};
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::gate::Pace;
use crate::lab::Lab;
use crate::watcher::{INTERVAL, Watcher, port};

/// The send buffer of the kernel for each connection. It is small, so that a peer that stops
/// reading is noticed soon.
const SEND_BUFFER: usize = 16 * 1024;

/// A message that makes the server remove all other connections.
pub const REMOVE_OTHERS: &[u8] = b"remove the others\n";

/// The handle with which the other thread reaches the observed loop.
#[derive(Clone)]
pub struct Observed {
    pub address: Address,
    remote: Remote,
    lab: Arc<Lab>,
    /// Timers that a scenario has set.
    timers: Arc<Mutex<Vec<Timer>>>,
    /// The listening socket. Accepted sockets inherit its options.
    socket: Arc<OwnedFd>,
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        if data == REMOVE_OTHERS {
            let own = transport.id();
            for connection in transport.reactor().handles::<Connection<Echo>>() {
                if connection.id() != own {
                    transport.reactor().remove(connection.id());
                }
            }
        }
        transport.write(data);
    }
}

/// Runs the loop. Sends the handle for the other thread through `started`.
pub fn run(lab: Arc<Lab>, started: Sender<Observed>) -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let options = ListenOptions::default();
    let sockets = ListeningSocket::bind_all(&[Address::Tcp(([127, 0, 0, 1], 0).into())], &options)?;
    let address = sockets[0].local_addr().clone();
    let socket = Arc::new(sockets[0].as_fd().try_clone_to_owned()?);
    create_server_with_sockets(&mut reactor, sockets, &options, || Echo)?;

    let must_wait = Rc::new(Cell::new(false));
    reactor.add_observer(Watcher::new(lab.clone(), must_wait.clone()));
    let observed = Observed { address, remote: reactor.remote()?, lab, timers: Arc::default(), socket };
    observed.set_send_buffer(SEND_BUFFER);
    let _ = started.send(observed);
    loop {
        // The loop wakes once more after its last sample, so that the page shows the end of a long
        // burst.
        reactor.turn(must_wait.get().then_some(INTERVAL))?;
    }
}

/// Finds the connection whose peer has this port.
fn find(reactor: &Reactor, wanted: u16) -> Option<Id> {
    reactor.slots().find(|slot| port(slot) == Some(wanted)).map(|slot| slot.id)
}

impl Observed {
    fn call(&self, f: impl FnOnce(&mut Reactor) + Send + 'static) {
        let _ = self.remote.call(f); // the loop ends only with the program
    }

    fn set_send_buffer(&self, size: usize) {
        let _ = set_socket_send_buffer_size(&self.socket, size); // if this fails, the kernel's default stays
    }

    /// Removes all connections and timers, and calls `done`. After that, the loop is held where the
    /// next turn begins.
    pub fn reset(&self, large_buffers: bool, done: impl FnOnce() + Send + 'static) {
        self.set_send_buffer(if large_buffers { 4 << 20 } else { SEND_BUFFER });
        self.lab.gate.set(Pace::Run);
        let (lab, timers) = (self.lab.clone(), self.timers.clone());
        self.call(move |reactor| {
            // The slot that becomes vacant last is used first.
            for connection in reactor.handles::<Connection<Echo>>().into_iter().rev() {
                reactor.remove(connection.id());
            }
            for timer in timers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                reactor.cancel(timer);
            }
            lab.gate.set(Pace::Turn);
            done();
        });
    }

    /// Calls `f` with the connection of the peer at `port`.
    fn enter(&self, port: u16, f: impl FnOnce(&mut Transport) + Send + 'static) {
        let lab = self.lab.clone();
        self.call(move |reactor| {
            let id = find(reactor, port);
            let entered =
                id.map(|id| Handle::<Connection<Echo>>::new(id).enter(reactor, |_, transport| f(transport)));
            if !matches!(entered, Some(Ok(()))) {
                lab.note("The server has no connection with this peer.", "slab");
            }
        });
    }

    /// Makes the server end its side of a connection, and continue to read.
    pub fn half_close(&self, port: u16) {
        self.enter(port, |transport| transport.write_eof());
    }

    pub fn close(&self, port: u16) {
        self.enter(port, |transport| transport.close());
    }

    pub fn set_timer(&self, delay: Duration) {
        let timers = self.timers.clone();
        self.call(move |reactor| {
            let timer = reactor.call_later(delay, |_| ());
            timers.lock().unwrap_or_else(PoisonError::into_inner).push(timer);
        });
    }

    /// Queues a closure that does what no callback should do: it blocks.
    pub fn block(&self, time: Duration) {
        self.call(move |_| thread::sleep(time));
    }

    /// Makes a third thread call into the loop.
    pub fn call_from_a_thread(&self) {
        let remote = self.remote.clone();
        thread::spawn(move || remote.call(|_| ()));
    }
}
