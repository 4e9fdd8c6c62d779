//! A client in the sockets style: a hand-written state machine (asyncio: `sock_connect`,
//! `sock_sendall`, `sock_recv`).
//!
//! Look at the fields of `Client`: you must keep the state yourself. The state is the unsent bytes,
//! and whether there is more to send.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ExitCode, exit};

use echo_reactor::cli::run_example;
use echo_reactor::{
    Address, Chunk, Flow, Framing, Handle, Id, Input, Mailbox, Next, Output, Reactor, Ready, Source, TryRecv,
};
use mio::Interest;
use mio::net::TcpStream;

struct Client {
    stream: TcpStream,
    lines: Handle<Mailbox<Chunk>>,
    stdout: Handle<Output>,
    write_buffer: Vec<u8>,
    sending: bool,
}

impl Client {
    fn send(&mut self, id: Id, reactor: &mut Reactor) -> io::Result<()> {
        while self.sending {
            if !self.write_buffer.is_empty() {
                let count = self.stream.write(&self.write_buffer)?;
                self.write_buffer.drain(..count);
                continue;
            }
            match self.lines.try_recv(reactor, id) {
                TryRecv::Item(Ok(line)) => self.write_buffer = line,
                TryRecv::Empty => break,
                TryRecv::Closed | TryRecv::Item(Err(_)) => {
                    self.sending = false;
                    self.stream.shutdown(Shutdown::Write)?;
                }
            }
        }
        Ok(())
    }

    /// Returns `false` at the end of file.
    fn receive(&mut self, id: Id, reactor: &mut Reactor) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while self.stdout.flow(reactor, id) == Flow::Open {
            match self.stream.read(&mut buffer)? {
                0 => return Ok(false),
                count => self.stdout.write(reactor, id, &buffer[..count]),
            };
        }
        Ok(true) // stdout is full, and wakes this source when it has room
    }
}

/// Replaces `WouldBlock` with `value`. Other errors are returned.
fn ignore_would_block<T>(result: io::Result<T>, value: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(value),
        other => other,
    }
}

impl Source for Client {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        let connected = self.stream.take_error().and_then(|error| error.map_or(Ok(()), Err));
        if connected.is_ok() && self.stream.peer_addr().is_err() && !ready.intersects(Ready::READABLE) {
            return Next::Wait; // not connected yet
        }
        let sent = connected.and_then(|()| ignore_would_block(self.send(id, reactor), ()));
        let open = ignore_would_block(self.receive(id, reactor), true);
        let status = match sent.and(open) {
            Ok(true) => return Next::Wait,
            Ok(false) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        };
        self.stdout.on_flushed(reactor, move |_| exit(status));
        Next::Done
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let Some(Address::Tcp(address)) = address.to_connect()?.into_iter().next() else {
            return Err(io::Error::other("this example supports TCP only"));
        };
        let mut reactor = Reactor::new()?;
        let lines = Mailbox::new(&mut reactor, 16);
        Input::open(&mut reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(&mut reactor, &io::stdout(), |reactor, _| reactor.stop())?;
        let stream = TcpStream::connect(address)?;
        let client = Client { stream, lines, stdout, write_buffer: Vec::new(), sending: true };
        reactor.add(client, Interest::READABLE | Interest::WRITABLE)?;
        reactor.run()
    })
}
