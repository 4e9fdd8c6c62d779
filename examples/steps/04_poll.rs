//! Step 4: the kernel reports which peers are ready.
//!
//! `poll(2)` sleeps until a descriptor is ready for something that we are interested in. It is
//! level-triggered: it returns at once for as long as a descriptor is ready. An idle stream is
//! always writable, and a stream at its end is always readable. So the loop switches off interest
//! that it cannot use, because otherwise it would spin. `unsent` still grows without limit, and
//! each turn passes all descriptors to the kernel.
//!
//! Try: `strace target/debug/examples/step_04_poll`, then talk to the server. It sleeps in
//! `ppoll` and uses no CPU.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::{PollFd, PollFlags, poll};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut server = Server { listener, connections: Vec::new() };
    loop {
        server.turn()?;
    }
}

struct Server {
    listener: TcpListener,
    connections: Vec<Connection>,
}

impl Server {
    fn turn(&mut self) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(self.connections.iter().map(|each| PollFd::new(&each.stream, each.interest())));
        poll(&mut fds, None)?; // the only call that sleeps
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut connections_ready = ready[1..].iter();
        self.connections.retain_mut(|connection| {
            let is_ready = connections_ready.next() == Some(&true);
            !is_ready || connection.serve()
        });
        if ready[0] {
            self.accept();
        }
        Ok(())
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

    /// The events that are of use now.
    fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, !self.at_eof);
        interest.set(PollFlags::OUT, !self.unsent.is_empty());
        interest
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
        match self.stream.write(self.unsent.as_slices().0) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
