//! A loop that relays bytes from one peer to another. It asks for the interest before each `poll`.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::judge::{Mistake, Verdict, doing, ensure};

/// The size of the relay's buffer.
pub const CAPACITY: usize = 4096;

/// The state of the relay.
#[derive(Default)]
pub struct Relay {
    /// The bytes that were read from the sender, and are not yet written to the receiver.
    pub buffer: Vec<u8>,
    /// Whether a read from the sender has returned 0.
    pub at_eof: bool,
}

type Interest = fn(&Relay) -> [PollFlags; 2];

struct Loop {
    interest: Interest,
    relay: Relay,
    from: UnixStream,
    to: UnixStream,
}

pub fn check(interest: Interest) -> Verdict {
    doing("in `interest`");
    let (from, mut sender) = pair();
    let (to, mut receiver) = pair();
    let mut relay = Loop { interest, relay: Relay::default(), from, to };
    relay.run()?; // nothing has come

    write(&mut sender, b"hello");
    relay.run()?;
    ensure!(read_all(&mut receiver) == b"hello", "5 bytes were sent, and the receiver did not get them");

    let mut sent = 0; // the receiver does not read
    loop {
        let count = write(&mut sender, &[7; 1000]);
        sent += count;
        relay.run()?;
        if count == 0 {
            break;
        }
    }
    let mut received = 0; // now it does
    while received < sent {
        let count = read_all(&mut receiver).len();
        received += count;
        relay.run()?;
        ensure!(count > 0, "{sent} bytes were sent, and the receiver got {received}");
    }

    write(&mut sender, b"bye");
    sender.shutdown(Shutdown::Write).unwrap();
    relay.run()?;
    ensure!(read_all(&mut receiver) == b"bye", "the last 3 bytes came with the end of file, and were lost");
    drain_after_eof(interest)
}

/// The end of file comes while the receiver has no room for the last bytes.
fn drain_after_eof(interest: Interest) -> Verdict {
    let ((from, mut sender), (to, mut receiver)) = (pair(), pair());
    let mut relay = Loop { interest, relay: Relay::default(), from, to };
    while write(&mut relay.to, &[7; 1000]) > 0 {} // the receiver's buffers are full
    write(&mut sender, b"bye");
    sender.shutdown(Shutdown::Write).unwrap();
    relay.run()?;
    read_all(&mut receiver);
    relay.run()?; // now there is room
    ensure!(
        read_all(&mut receiver) == b"bye",
        "the sender has ended, its last 3 bytes were in the buffer, and the receiver did not get them"
    );
    Ok(())
}

impl Loop {
    /// Runs turns until the loop would sleep.
    fn run(&mut self) -> Verdict {
        let mut turns_in_vain = 0;
        loop {
            let interest = (self.interest)(&self.relay);
            let ready = ready([&self.from, &self.to], interest);
            if ready == [false, false] {
                return self.may_sleep();
            }
            let is_progress = (ready[0] && self.receive()) | (ready[1] && self.send());
            turns_in_vain = if is_progress { 0 } else { turns_in_vain + 1 };
            if turns_in_vain == 1000 {
                return Err(self.reason_to_spin(interest));
            }
        }
    }

    /// Returns whether anything has changed.
    fn receive(&mut self) -> bool {
        let was_at_eof = self.relay.at_eof;
        let room = CAPACITY - self.relay.buffer.len();
        let mut piece = vec![0; room];
        match self.from.read(&mut piece) {
            Ok(0) if room > 0 => self.relay.at_eof = true,
            Ok(count) => self.relay.buffer.extend(&piece[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        self.relay.buffer.len() > CAPACITY - room || self.relay.at_eof != was_at_eof
    }

    fn send(&mut self) -> bool {
        let count = write(&mut self.to, &self.relay.buffer);
        self.relay.buffer.drain(..count);
        count > 0
    }

    fn may_sleep(&self) -> Verdict {
        let Relay { buffer, at_eof } = &self.relay;
        let [can_read, can_write] = ready([&self.from, &self.to], [PollFlags::IN, PollFlags::OUT]);
        ensure!(
            !can_read || *at_eof || buffer.len() == CAPACITY,
            "the loop sleeps although the sender's bytes are there and the buffer has room for {}: \
             switch read interest on",
            CAPACITY - buffer.len()
        );
        ensure!(
            !can_write || buffer.is_empty(),
            "the loop sleeps although {} bytes are in the buffer{} the receiver has room: switch write \
             interest on",
            buffer.len(),
            if *at_eof { ", the sender has ended and" } else { " and" }
        );
        Ok(())
    }

    fn reason_to_spin(&self, [from, to]: [PollFlags; 2]) -> Mistake {
        let reason = if to.contains(PollFlags::OUT) && self.relay.buffer.is_empty() {
            "write interest is on although the buffer is empty, and an idle socket is always writable"
        } else if from.contains(PollFlags::IN) && self.relay.at_eof {
            "read interest is on after the end of file, and a socket at its end is always readable"
        } else if from.contains(PollFlags::IN) && self.relay.buffer.len() == CAPACITY {
            "read interest is on although the buffer is full, so what arrives cannot be read"
        } else {
            "the sender is asked for more than `IN`, or the receiver for more than `OUT`"
        };
        format!("the loop made 1,000 turns while nothing happened: {reason}").into()
    }
}

/// Two connected sockets that never block.
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

/// Polls without sleeping. A descriptor without interest is left out.
fn ready(streams: [&UnixStream; 2], interest: [PollFlags; 2]) -> [bool; 2] {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    [0, 1].map(|index| {
        let mut fds = [PollFd::new(streams[index], interest[index])];
        !interest[index].is_empty() && poll(&mut fds, Some(&now)).unwrap() == 1
    })
}

/// Writes as much as the kernel takes.
fn write(stream: &mut UnixStream, bytes: &[u8]) -> usize {
    stream.write(bytes).unwrap_or(0)
}

/// Reads what is there.
fn read_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all); // `WouldBlock`, as the stream is still open
    assert_eq!(end.unwrap_err().kind(), ErrorKind::WouldBlock);
    all
}
