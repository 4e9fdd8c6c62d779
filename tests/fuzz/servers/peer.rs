//! The protocol of the clients, and of the connections that a server has accepted.

use echo_reactor::{Address, CloseReason, Connection, ConnectionLost, Handle, Protocol, Reactor, Transport};

use super::super::calls::{Call, Calls};
use super::{Shared, outside};

/// The record of a client, or of a connection that a server has accepted.
pub struct End {
    pub handle: Option<Handle<Connection<Peer>>>,
    pub calls: Calls,
    /// The server that has accepted it.
    pub server: Option<usize>,
    /// The addresses that a client connects to.
    pub addresses: Vec<Address>,
    /// How many servers there were when the record began.
    pub servers: usize,
    pub received: Vec<u8>,
    pub wake_is_due: bool,
}

pub struct Peer {
    pub number: usize,
    pub script: Shared,
}

impl Peer {
    /// Checks the order of the callbacks, and takes the next command.
    fn called(&self, call: Call, transport: &mut Transport) {
        self.script.borrow_mut().ends[self.number].calls.record(call);
        let command = self.script.borrow_mut().input.byte();
        match command % 4 {
            0 => act(&self.script, self.number, command / 4, transport),
            1 => outside(&self.script, command / 4, transport.reactor()),
            _ => {}
        }
    }
}

impl Protocol for Peer {
    fn connection_made(&mut self, transport: &mut Transport) {
        let mut guard = self.script.borrow_mut();
        let script = &mut *guard;
        script.ends[self.number].handle = Some(transport.handle());
        let end = &script.ends[self.number];
        if end.server.is_none() {
            let peer = transport.peer_addr().unwrap();
            let index = end.addresses.iter().position(|address| address == peer).expect("a wrong address");
            // A server may reset a connection before its client is called.
            let has_reset = |server: usize| {
                script.ends.iter().any(|end| end.server == Some(server) && end.calls.has_closed)
            };
            let passed_over = script.servers[..end.servers].iter().enumerate().find(|(number, server)| {
                server.is_reachable() && server.listens_on_any(&end.addresses[..index]) && !has_reset(*number)
            });
            let passed_over = passed_over.map(|(_, server)| &server.addresses);
            assert!(passed_over.is_none() || script.was_short, "{passed_over:?} was not tried first");
            *script.connected.entry(peer.clone()).or_default() += 1;
            transport.write(&[u8::try_from(self.number).unwrap()]);
        }
        drop(guard);
        self.called(Call::Made, transport);
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        let mut script = self.script.borrow_mut();
        let end = &mut script.ends[self.number];
        end.received.extend_from_slice(data);
        let received = end.received.clone();
        assert!(received.len() == 1, "{received:?}");
        let is_same = |end: &End| end.server.is_some() && end.received == received;
        if script.ends[self.number].server.is_some() {
            assert_eq!(script.ends.iter().filter(|end| is_same(end)).count(), 1, "{received:?} served twice");
            transport.write(data);
        } else {
            assert_eq!(usize::from(received[0]), self.number);
        }
        drop(script);
        self.called(Call::Data, transport);
    }
    fn eof_received(&mut self, transport: &mut Transport) {
        self.called(Call::Eof, transport);
        transport.close();
        self.script.borrow_mut().ends[self.number].calls.has_closed = true;
    }
    fn woken(&mut self, transport: &mut Transport) {
        self.script.borrow_mut().ends[self.number].wake_is_due = false;
        self.called(Call::Woken, transport);
    }
    fn connection_lost(&mut self, reactor: &mut Reactor, lost: ConnectionLost) {
        let mut guard = self.script.borrow_mut();
        let script = &mut *guard;
        let end = &mut script.ends[self.number];
        let was_connecting = end.server.is_none() && end.calls.all.is_empty();
        match &lost.reason {
            CloseReason::Unreachable(error) => {
                let tried = error.attempts.iter().map(|(address, _)| address);
                assert!(was_connecting && tried.eq(&end.addresses), "{error}");
            }
            reason => {
                assert!(!was_connecting || matches!(reason, CloseReason::Aborted) && end.calls.has_closed);
            }
        }
        end.calls.record(Call::Lost);
        if let Some(server) = end.server {
            let server = &mut script.servers[server];
            server.open -= 1;
            server.bytes = (server.bytes.0 + lost.bytes_in, server.bytes.1 + lost.bytes_out);
        }
        let command = script.input.byte();
        drop(guard);
        if command % 4 == 1 {
            outside(&self.script, command / 4, reactor);
        }
    }
}

/// Takes a command of an end on its own transport.
pub fn act(script: &Shared, number: usize, command: u8, transport: &mut Transport) {
    let mut has_closed = true;
    match command % 8 {
        1 => transport.close(),
        2 => transport.abort(),
        3 => {
            script.borrow_mut().ends[number].calls.has_closed = true; // only `connection_lost` may follow
            let id = transport.id();
            transport.reactor().remove(id);
        }
        other => {
            has_closed = false;
            match other {
                4 => transport.write_eof(),
                5 => transport.pause_reading(),
                6 => transport.resume_reading(),
                _ => {}
            }
        }
    }
    script.borrow_mut().ends[number].calls.has_closed |= has_closed;
}
