//! A server in the sockets style: a hand-written state machine (asyncio: `sock_accept`,
//! `sock_recv`, `sock_sendall`).
//!
//! Look at `unsent`: it is the whole state. It also gives backpressure, because the server reads
//! only when everything is sent. The other styles also do this for you: a budget per turn, and
//! retrying a failed `accept`.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use echo_reactor::cli::run_example;
use echo_reactor::{Address, Id, Next, Reactor, Ready, Source, Timer};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};

struct Echo {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of `buffer` that is not sent yet.
    unsent: Range<usize>,
}

impl Echo {
    /// Reads or writes once. Returns 0 at the end of file.
    fn step(&mut self) -> io::Result<usize> {
        if self.unsent.is_empty() {
            self.unsent = 0..self.stream.read(&mut self.buffer)?;
            return Ok(self.unsent.end);
        }
        self.unsent.start += self.stream.write(&self.buffer[self.unsent.clone()])?;
        Ok(self.unsent.start)
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
        Next::Again // after the other sources
    }
}

impl AsFd for Echo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

struct Acceptor {
    listener: TcpListener,
    /// The timer that retries `accept`, after a failure.
    retry: Option<Timer>,
}

impl Source for Acceptor {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        if let Some(retry) = self.retry.take() {
            reactor.cancel(retry); // otherwise, each new connection would start another timer
        }
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let echo = Echo { stream, buffer: vec![0; 4096], unsent: 0..0 };
                    let _ = reactor.add(echo, Interest::READABLE | Interest::WRITABLE);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                // For example, no descriptor is left. No event reports when there is one, so retry
                // later.
                Err(_) => {
                    self.retry = reactor.wake_at(reactor.now() + Duration::from_millis(100), id);
                    return Next::Wait;
                }
            }
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
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
        reactor.add(Acceptor { listener, retry: None }, Interest::READABLE)?;
        reactor.run()
    })
}
