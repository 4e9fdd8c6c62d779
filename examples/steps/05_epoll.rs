//! Step 5: the kernel keeps the list of descriptors, and reports only changes.
//!
//! A descriptor is registered once, with a token, in `epoll`, which `mio` wraps. It is
//! edge-triggered: an event comes when something arrives, and does not come again for bytes that
//! are left unread. So a connection remembers its readiness: an event sets `readable` or
//! `writable`, and `WouldBlock` clears it. A connection goes on until `WouldBlock`, so a peer that
//! floods makes all others wait. `unsent` still grows without limit. If `accept` fails, for example
//! because no descriptor is left, those that wait are forgotten until the next one comes.
//!
//! Try: `strace target/debug/examples/step_05_epoll`, then talk to the server. Each
//! `epoll_wait` returns only what has changed.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

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
    connections: HashMap<Token, Connection>,
    last_token: Token,
}

impl Server {
    fn new(mut listener: TcpListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server { poll, listener, connections: HashMap::new(), last_token: LISTENER })
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
        self.last_token.0 += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, self.last_token, both) {
            Ok(()) => drop(self.connections.insert(self.last_token, Connection::new(stream))),
            Err(error) => eprintln!("connection: {error}"),
        }
    }

    fn dispatch(&mut self, token: Token, event: &Event) {
        if let Some(connection) = self.connections.get_mut(&token)
            && !connection.serve(event)
        {
            self.connections.remove(&token);
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
    fn serve(&mut self, event: &Event) -> bool {
        self.readable |= event.is_readable();
        self.writable |= event.is_writable();
        self.echo().unwrap_or_else(|error| {
            eprintln!("connection: {error}");
            false
        })
    }

    fn echo(&mut self) -> io::Result<bool> {
        while self.can_read() || self.can_write() {
            if self.can_read() {
                self.receive()?;
            }
            if self.can_write() {
                self.send()?;
            }
        }
        Ok(!self.at_eof || !self.unsent.is_empty())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
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
