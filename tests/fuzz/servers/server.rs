//! The listeners, and the models of their counters and callbacks.

use echo_reactor::{Address, Handle, ListenOptions, Listener, Reactor, create_server};

use super::super::calls::Callbacks;
use super::peer::Peer;
use super::{Shared, fresh_address, outside};

pub struct Server {
    pub handle: Handle<Listener>,
    pub addresses: Vec<Address>,
    pub limit: usize,
    pub has_backlog: bool,
    pub accepted: u64,
    pub open: usize,
    pub bytes: (u64, u64),
    pub is_stopped: bool,
    pub is_removed: bool,
    pub on_stopped: Callbacks,
    pub on_closed: Callbacks,
}

impl Server {
    /// Whether every attempt to connect succeeds at once.
    pub fn is_reachable(&self) -> bool {
        self.has_backlog && !self.is_stopped
    }

    pub fn listens_on_any(&self, addresses: &[Address]) -> bool {
        addresses.iter().any(|address| self.addresses.contains(address))
    }
}

pub fn serve(script: &Shared, argument: u8, reactor: &mut Reactor) {
    if script.borrow().is_short {
        return;
    }
    let mut options = ListenOptions::default();
    options.max_connections = [None, Some(0), Some(1), Some(3)][usize::from(argument / 2 % 4)];
    options.backlog = if argument.is_multiple_of(2) { 4096 } else { 0 };
    let addresses: Vec<_> = (0..=argument / 32 % 2).map(|more| fresh_address(argument / 8 + more)).collect();
    let (number, shared) = (script.borrow().servers.len(), script.clone());
    let factory = move || {
        let mut script = shared.borrow_mut();
        let server = &mut script.servers[number];
        assert!(server.open < server.limit && !server.is_removed);
        (server.accepted, server.open) = (server.accepted + 1, server.open + 1);
        Peer { number: script.add_end(Some(number), Vec::new()), script: shared.clone() }
    };
    let handle = create_server(reactor, &addresses, &options, factory).unwrap();
    script.borrow_mut().servers.push(Server {
        handle,
        addresses: handle.addresses(reactor).unwrap(),
        limit: options.max_connections.unwrap_or(usize::MAX),
        has_backlog: options.backlog > 0,
        accepted: 0,
        open: 0,
        bytes: (0, 0),
        is_stopped: false,
        is_removed: false,
        on_stopped: Callbacks::default(),
        on_closed: Callbacks::default(),
    });
}

/// Registers a callback for the end of a listener.
pub fn call_back(
    script: &Shared,
    number: usize,
    handle: Handle<Listener>,
    argument: u8,
    reactor: &mut Reactor,
) {
    let select: fn(&mut Server) -> &mut Callbacks =
        if argument >= 128 { |server| &mut server.on_stopped } else { |server| &mut server.on_closed };
    let (shared, place) = (script.clone(), select(&mut script.borrow_mut().servers[number]).registered);
    let callback = move |reactor: &mut Reactor| {
        let mut guard = shared.borrow_mut();
        let server = &mut guard.servers[number];
        assert!(server.is_stopped && (argument >= 128 || server.is_removed || server.open == 0));
        select(server).call(place);
        let command = guard.input.byte();
        drop(guard);
        if command % 4 == 1 {
            outside(&shared, command / 4, reactor);
        }
    };
    let registered = if argument >= 128 {
        handle.on_stopped(reactor, callback)
    } else {
        handle.on_closed(reactor, callback)
    };
    if registered.is_ok() {
        select(&mut script.borrow_mut().servers[number]).registered += 1;
    }
}

/// Compares the counters of each listener with what its connections report.
pub fn assert_counted(script: &Shared, reactor: &Reactor) {
    for server in &script.borrow().servers {
        let Ok(stats) = server.handle.stats(reactor) else {
            assert!(server.is_removed);
            continue;
        };
        assert!(stats.open <= server.limit && stats.open >= server.open, "{stats:?}, {} open", server.open);
        assert_eq!((stats.accepted, stats.refused), (server.accepted, 0));
        if reactor.queue().is_empty() {
            assert_eq!((stats.open, (stats.bytes_in, stats.bytes_out)), (server.open, server.bytes));
        }
        let is_listening = !server.handle.addresses(reactor).unwrap().is_empty();
        assert!(is_listening != server.is_stopped);
    }
}
