//! Resolves a name while the loop runs.
//!
//! Invariant: `getaddrinfo(3)` blocks, so it runs in a thread of its own. The thread sends only the
//! result to the loop's thread. A source without a descriptor waits for the result, and the thread
//! wakes that source.
//!
//! Read next: `../reactor/remote.rs`, the way into the loop from another thread.

use std::io;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use super::AddressArgument;
use crate::{Address, Id, Next, Reactor, Ready, Source};

type OnDone = Box<dyn FnOnce(&mut Reactor, io::Result<Vec<Address>>)>;

/// Resolves an address to connect to. Later, calls `on_done` with the result of
/// [`AddressArgument::to_connect`].
pub fn look_up(
    reactor: &mut Reactor,
    address: &AddressArgument,
    on_done: impl FnOnce(&mut Reactor, io::Result<Vec<Address>>) + 'static,
) {
    let (sender, result) = mpsc::channel();
    let id = reactor.insert(Lookup { result, on_done: Some(Box::new(on_done)) }).id();
    let (address, spawn_error) = (address.clone(), sender.clone());
    let spawned = reactor.remote().and_then(|remote| {
        thread::Builder::new().spawn(move || {
            // If the receiver is gone, the program is ending.
            let _ = sender.send(address.to_connect());
            let _ = remote.wake(id);
        })
    });
    if let Err(error) = spawned {
        let _ = spawn_error.send(Err(error));
        reactor.wake(id);
    }
}

struct Lookup {
    result: Receiver<io::Result<Vec<Address>>>,
    /// `None` after it was called.
    on_done: Option<OnDone>,
}

impl Source for Lookup {
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        let result = match self.result.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return Next::Wait,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the name lookup was interrupted")),
        };
        if let Some(on_done) = self.on_done.take() {
            on_done(reactor, result);
        }
        Next::Done
    }
}
