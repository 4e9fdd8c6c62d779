//! Step 8: a write buffer with a high- and a low-water mark.
//!
//! A connection stops reading while too much is unsent. Then the kernel's buffers fill, and the
//! peer's own writes have to wait: that is backpressure. A connection now needs memory for
//! `HIGH_WATER` and one read at most. When it reads again, it needs no event, because `readable`
//! has remembered the last one. A silent peer still keeps its connection forever, and only an event
//! wakes the loop.
//!
//! Try: `head -c 500000000 /dev/zero | echo-client | sleep 60 &` and
//! `watch grep VmRSS /proc/$(pgrep step_08)/status`, and the same with step 7.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const SLOTS: usize = 1 << 32;
const BUFFER_SIZE: usize = 1 << 14;
const BUDGET: usize = 16;
const HIGH_WATER: usize = 1 << 16;
const LOW_WATER: usize = 1 << 14;

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
    /// Tokens of those that stopped early. They are called in the next turn.
    again: BTreeSet<Token>,
    buffer: Vec<u8>,
}

impl Server {
    fn new(mut listener: TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (connections, again) = (Table::default(), BTreeSet::new());
        Ok(Server { poll, listener, connections, again, buffer: vec![0; BUFFER_SIZE] })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if self.again.is_empty() { None } else { Some(Duration::ZERO) };
        // The only call that sleeps. Ctrl-Z and `fg` interrupt it.
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut again = mem::take(&mut self.again);
        for event in &*events {
            again.remove(&event.token()); // this call is its call of this turn
            self.dispatch(event.token(), Some(event));
        }
        for token in again {
            self.dispatch(token, None);
        }
        Ok(())
    }

    /// Closes a connection. This frees a descriptor, so `accept` may succeed again.
    fn close(&mut self, token: Token) {
        self.connections.free(token);
        self.again.insert(LISTENER);
    }

    fn accept(&mut self) {
        let mut failures = 0;
        for _ in 0..BUDGET {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An error may concern one connection only, so the next call may succeed.
                Err(_) if failures < BUDGET - 1 => failures += 1,
                // Every call has failed, for example because no descriptor is left.
                Err(error) => return eprintln!("accept: {error}"), // `close` calls it again
            }
        }
        self.again.insert(LISTENER);
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

    fn dispatch(&mut self, token: Token, event: Option<&Event>) {
        if token == LISTENER {
            return self.accept();
        }
        let Some(mut connection) = self.connections.take_out(token) else { return };
        match connection.serve(event, self) {
            Next::Done => return self.close(token),
            Next::Again => drop(self.again.insert(token)),
            Next::Wait => {}
        }
        self.connections.put_back(token, connection);
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

/// The next call of a connection.
enum Next {
    /// When an event comes.
    Wait,
    /// In the next turn.
    Again,
    /// Never.
    Done,
}

#[derive(PartialEq)]
enum Reading {
    On,
    /// Too much is unsent.
    Paused,
    AtEof,
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    reading: Reading,
    readable: bool,
    writable: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let (unsent, reading) = (VecDeque::new(), Reading::On);
        Connection { stream, unsent, reading, readable: false, writable: false }
    }

    fn can_read(&self) -> bool {
        self.readable && self.reading == Reading::On
    }

    fn can_write(&self) -> bool {
        self.writable && !self.unsent.is_empty()
    }

    fn serve(&mut self, event: Option<&Event>, server: &mut Server) -> Next {
        self.readable |= event.is_some_and(Event::is_readable);
        self.writable |= event.is_some_and(Event::is_writable);
        self.echo(server).unwrap_or_else(|error| {
            eprintln!("connection: {error}");
            Next::Done
        })
    }

    fn echo(&mut self, server: &mut Server) -> io::Result<Next> {
        for _ in 0..BUDGET {
            if !self.can_read() && !self.can_write() {
                let is_done = self.reading == Reading::AtEof && self.unsent.is_empty();
                return Ok(if is_done { Next::Done } else { Next::Wait });
            }
            if self.can_read() {
                self.receive(&mut server.buffer)?;
            }
            if self.can_write() {
                self.send()?;
            }
        }
        Ok(Next::Again)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => self.reading = Reading::AtEof,
            Ok(count) => self.unsent.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) => return Err(error),
        }
        if self.unsent.len() >= HIGH_WATER {
            self.reading = Reading::Paused;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        match self.stream.write(self.unsent.as_slices().0) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) => return Err(error),
        }
        if self.unsent.is_empty() {
            self.unsent = VecDeque::new(); // gives its memory back
        }
        if self.reading == Reading::Paused && self.unsent.len() <= LOW_WATER {
            self.reading = Reading::On;
        }
        Ok(())
    }
}
