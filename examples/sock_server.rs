//! The sockets style, on the server's side: a state machine by hand (asyncio: `sock_accept`,
//! `sock_recv`, `sock_sendall`).
//!
//! Look at `owed`: it is the whole state, and the whole backpressure. While something is owed nothing is
//! read. And look at what the other styles do for you: rations, and an `accept` that fails.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use echo_reactor::cli::run_example;
use echo_reactor::{Address, Id, Next, Reactor, Ready, Source};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

struct Echo {
    stream: TcpStream,
    buffer: Vec<u8>,
    owed: Range<usize>,
}

impl Echo {
    /// One step. 0 is the end of file.
    fn step(&mut self) -> io::Result<usize> {
        if self.owed.is_empty() {
            self.owed = 0..self.stream.read(&mut self.buffer)?;
            return Ok(self.owed.end);
        }
        self.owed.start += self.stream.write(&self.buffer[self.owed.clone()])?;
        Ok(self.owed.start)
    }
}

impl Source for Echo {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        for _ in 0..32 {
            match self.step() {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Ok(0) | Err(_) => return Next::Done,
            }
        }
        Next::Again // the others want their turn
    }
}

impl AsFd for Echo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

struct Acceptor(TcpListener);

impl Source for Acceptor {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    let echo = Echo { stream, buffer: vec![0; 4096], owed: 0..0 };
                    let _ = reactor.add(echo, Interest::READABLE | Interest::WRITABLE);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                // No descriptor, say. No event will tell of those who wait, so come back later.
                Err(_) => {
                    reactor.wake_at(reactor.now() + Duration::from_millis(100), id);
                    return Next::Wait;
                }
            }
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let Some(Address::Tcp(address)) = address.to_listen()?.pop() else {
            return Err(io::Error::other("this example supports TCP only"));
        };
        let mut reactor = Reactor::new()?;
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        reactor.add(Acceptor(listener), Interest::READABLE)?;
        reactor.run()
    })
}
