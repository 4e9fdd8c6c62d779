//! Step 3: one thread asks all peers, all the time.
//!
//! A non-blocking call returns `WouldBlock` where it would sleep. So a connection has to remember
//! what a blocking thread has on its stack: the bytes that are not sent yet, and whether the peer
//! has ended. The loop never sleeps. `unsent` grows without limit if a peer does not read.
//!
//! Try: `top -p $(pgrep step_03)`. The server uses a whole core to learn that nothing has happened.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut server = Server { listener, connections: Vec::new() };
    loop {
        server.turn();
    }
}

struct Server {
    listener: TcpListener,
    connections: Vec<Connection>,
}

impl Server {
    fn turn(&mut self) {
        self.accept();
        self.connections.retain_mut(Connection::serve);
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => self.add(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => eprintln!("accept: {error}"),
        }
    }

    fn add(&mut self, stream: TcpStream) {
        if stream.set_nonblocking(true).is_ok() {
            self.connections.push(Connection::new(stream));
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    at_eof: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Connection { stream, unsent: VecDeque::new(), at_eof: false }
    }

    /// Returns whether the connection goes on.
    fn serve(&mut self) -> bool {
        self.echo().unwrap_or_else(|error| {
            eprintln!("connection: {error}");
            false
        })
    }

    fn echo(&mut self) -> io::Result<bool> {
        self.receive()?;
        if !self.unsent.is_empty() {
            self.send()?;
        }
        Ok(!self.at_eof || !self.unsent.is_empty())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.at_eof = true,
            Ok(count) => self.unsent.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        // A `VecDeque` is a ring, so its bytes may be in two pieces. This is the first one. When it
        // is written, the second one is the first.
        match self.stream.write(self.unsent.as_slices().0) {
            // `drain` returns an iterator, and to drop it removes these bytes.
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
