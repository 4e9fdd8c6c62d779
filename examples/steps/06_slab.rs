//! Step 6: a table of state machines, with tokens that go stale harmlessly.
//!
//! A slot of the table is used again when its connection has gone. A token is a slot and a
//! generation. The generation goes up when a connection goes, so an old token never finds the
//! slot's next connection. In this step only a connection's own event removes it, so no token is
//! stale yet. The queue and the timers of later steps keep tokens for longer. A connection that runs
//! is taken out of its slot, so it may use the whole server, for example its one read buffer. The
//! behaviour is that of step 5.
//!
//! Try: `strace -e epoll_ctl target/debug/examples/step_06_slab`, then connect, leave and connect
//! again. `u64` is the token.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const SLOTS: usize = 1 << 32;
const BUFFER_SIZE: usize = 1 << 14;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut server = Server::new(TcpListener::from_std(listener))?;
    let mut events = Events::with_capacity(64);
    loop {
        server.turn(&mut events)?;
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Table,
    buffer: Vec<u8>,
}

impl Server {
    fn new(mut listener: TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server { poll, listener, connections: Table::default(), buffer: vec![0; BUFFER_SIZE] })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        // The only call that sleeps. Ctrl-Z and `fg` interrupt it.
        match self.poll.poll(events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(),
                token => self.dispatch(token, event),
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return eprintln!("accept: {error}"),
            }
        }
    }

    fn add(&mut self, mut stream: TcpStream) {
        let token = self.connections.reserve();
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, token, both) {
            Ok(()) => self.connections.put_back(token, Connection::new(stream)),
            Err(error) => {
                eprintln!("connection: {error}");
                self.connections.free(token);
            }
        }
    }

    fn dispatch(&mut self, token: Token, event: &Event) {
        let Some(mut connection) = self.connections.take_out(token) else { return };
        if connection.serve(event, self) {
            self.connections.put_back(token, connection);
        } else {
            self.connections.free(token);
        }
    }
}

/// The connections, and an empty place for each one that is taken out.
#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: usize,
    connection: Option<Connection>,
}

impl Table {
    fn reserve(&mut self) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        Token(self.slots[index].generation * SLOTS + index)
    }

    /// The slot of a token, unless the token is stale.
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.0 % SLOTS)?;
        (slot.generation == token.0 / SLOTS).then_some(slot)
    }

    fn take_out(&mut self, token: Token) -> Option<Connection> {
        self.slot(token)?.connection.take()
    }

    fn put_back(&mut self, token: Token, connection: Connection) {
        if let Some(slot) = self.slot(token) {
            slot.connection = Some(connection);
        }
    }

    fn free(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            *slot = Slot { generation: (slot.generation + 1) % SLOTS, connection: None };
            self.free.push(token.0 % SLOTS);
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    at_eof: bool,
    readable: bool,
    writable: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Connection { stream, unsent: VecDeque::new(), at_eof: false, readable: false, writable: false }
    }

    fn can_read(&self) -> bool {
        self.readable && !self.at_eof
    }

    fn can_write(&self) -> bool {
        self.writable && !self.unsent.is_empty()
    }

    /// Returns whether the connection goes on.
    fn serve(&mut self, event: &Event, server: &mut Server) -> bool {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.echo(server).unwrap_or_else(|error| {
            eprintln!("connection: {error}");
            false
        })
    }

    fn echo(&mut self, server: &mut Server) -> io::Result<bool> {
        while self.can_read() || self.can_write() {
            if self.can_read() {
                self.receive(&mut server.buffer)?;
            }
            if self.can_write() {
                self.send()?;
            }
        }
        Ok(!self.at_eof || !self.unsent.is_empty())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => self.at_eof = true,
            Ok(count) => self.unsent.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        match self.stream.write(self.unsent.as_slices().0) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
