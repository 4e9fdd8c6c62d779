//! Each kind of input and output, and what reads or writes its other end.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::{Framing, Input, Mailbox, Output, Reactor, TryRecv};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::calls::spared;
use crate::common::{Scratch, pipe};
use crate::scenarios::{DATA, DATA_SIZE, Ending, Log, PAUSE, PIECE, SharedLog, Stop, drive, read_available};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Pipe,
    Socket,
    File,
}

/// An input that reads the data, and a receiver of its mailbox.
pub fn input(scratch: &Scratch, end: End, framing: Framing) -> Result<Ending, Stop> {
    let (ours, mut theirs) = spared(|| match end {
        End::Pipe => {
            let (reader, writer) = pipe();
            (reader, Some(File::from(writer)))
        }
        End::Socket => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (ours.into(), Some(File::from(OwnedFd::from(theirs))))
        }
        End::File => (File::open(scratch.file("in", &DATA)).unwrap().into(), None),
    });
    let mut reactor = Reactor::new()?;
    let mailbox = Mailbox::new(&mut reactor, 2);
    Input::open(&mut reactor, &ours, framing, mailbox)?;
    spared(|| drop(ours));
    let (mut log, mut sent) = (Log::default(), 0);
    drive(&mut reactor, PAUSE, |reactor| {
        let is_closed = loop {
            match mailbox.try_recv(reactor, mailbox.id()) {
                TryRecv::Item(_) if !log.ends.is_empty() => {
                    log.ends.push(Some(io::Error::other("an item after the last one")));
                }
                TryRecv::Item(Ok(chunk)) => {
                    let line = chunk.strip_suffix(b"\n").unwrap_or(&chunk);
                    if framing == Framing::Lines && line.contains(&b'\n') {
                        log.ends.push(Some(io::Error::other("two lines in one item")));
                    }
                    log.received.extend(chunk);
                }
                TryRecv::Item(Err(error)) => log.ends.push(Some(error)),
                TryRecv::Empty => break false,
                TryRecv::Closed => break true,
            }
        };
        // Only the last piece causes an event.
        let is_received = framing == Framing::Lines || log.received.len() == sent;
        if let Some(writer) = theirs.as_mut().filter(|_| is_received) {
            let is_done = spared(|| writer.write_all(&DATA[sent..sent + PIECE])).is_err();
            sent += PIECE;
            if is_done || sent == DATA_SIZE {
                spared(|| theirs = None);
            }
        }
        is_closed
    })?;
    if reactor.timer_count() > 0 {
        return Err(Stop::Broken("a timer is left".into()));
    }
    log.end_unless_failed();
    log.judge(&DATA)
}

/// An output that writes the data.
pub fn output(scratch: &Scratch, end: End) -> Result<Ending, Stop> {
    let (ours, mut theirs) = spared(|| match end {
        End::Pipe => {
            let (reader, writer) = pipe();
            fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
            (writer, Some(File::from(reader)))
        }
        End::Socket => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            (ours.into(), Some(File::from(OwnedFd::from(theirs))))
        }
        End::File => (File::create(scratch.path("out")).unwrap().into(), None),
    });
    let mut reactor = Reactor::new()?;
    let log = SharedLog::default();
    let errors = log.clone();
    let on_error = move |_: &mut Reactor, error| errors.borrow_mut().ends.push(Some(error));
    let output = Output::open(&mut reactor, &ours, on_error)?;
    spared(|| drop(ours));
    let is_flushed = Rc::new(Cell::new(false));
    let (mut pieces, mut arrived) = (DATA.chunks(PIECE), Vec::new());
    drive(&mut reactor, PAUSE, |reactor| {
        spared(|| theirs.as_mut().map(|reader| read_available(reader, &mut arrived)));
        let Some(piece) = pieces.next() else { return is_flushed.get() };
        output.write(reactor, output.id(), piece);
        if pieces.len() == 0 {
            let is_flushed = is_flushed.clone();
            output.on_flushed(reactor, move |_| is_flushed.set(true));
        }
        false
    })?;
    reactor.turn(Some(Duration::ZERO))?; // an error is reported from the queue
    drop(reactor);
    spared(|| match &mut theirs {
        Some(reader) => _ = read_available(reader, &mut arrived),
        None => arrived = fs::read(scratch.path("out")).unwrap(),
    });
    let mut log = log.borrow_mut();
    log.received = DATA.clone(); // it receives nothing
    log.end_unless_failed();
    log.judge(&arrived)
}
