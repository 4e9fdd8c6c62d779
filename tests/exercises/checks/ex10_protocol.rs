//! A connection of the library with your protocol, and its peer.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echo_reactor::{Connection, Protocol, Reactor};

use crate::judge::{Verdict, doing, ensure};

/// The longest line, in bytes with its newline.
pub const LIMIT: usize = 100;

struct Scene {
    reactor: Reactor,
    peer: UnixStream,
    sent: Vec<u8>,
    received: Vec<u8>,
    at_eof: bool,
}

pub fn check<P: Protocol>(new: fn() -> P) -> Verdict {
    doing("in a callback");
    let mut lines = Scene::new(new());
    for (piece, answer, hint) in [
        ("one\n", "ONE\n", "a line that is complete is answered at once"),
        ("t", "", "a line without its newline waits in `rest`"),
        ("wo\nthr", "TWO\n", "the line began in the piece before, and is in `rest`"),
        ("ee\nfour\n\n", "THREE\nFOUR\n\n", "no event comes for the other lines of a piece, so answer all"),
        ("five", "", "a line without its newline waits in `rest`"),
    ] {
        lines.send(piece.as_bytes());
        lines.expect(&format!("`{}`", piece.escape_default()), answer, hint)?;
    }
    lines.end();
    let hint = "`eof_received` answers what is in `rest`, without a newline";
    lines.expect("`five` and the end of file", "FIVE", hint)?;
    ensure!(
        lines.at_eof,
        "the peer ended its side and has all answers, and your side is still open: `eof_received` closes it"
    );

    let mut long = Scene::new(new());
    let line = "x".repeat(LIMIT - 1);
    long.send(format!("{line}\n").as_bytes());
    let hint = "100 bytes with the newline are not too long";
    long.expect("a line as long as the limit", &format!("{}\n", line.to_ascii_uppercase()), hint)?;
    long.send(format!("ok\n{line}{line}\nnot answered\n").as_bytes());
    let hint = "look at each line for itself, and answer nothing after `too long`";
    long.expect("a line, one that is too long, and a third one, in one piece", "OK\ntoo long\n", hint)?;
    ensure!(long.at_eof, "a line was too long, and the connection does not end: call `transport.close`");

    let mut longer = Scene::new(new());
    longer.send(format!("x{line}\n").as_bytes());
    let hint = "101 bytes with the newline are too long";
    longer.expect("a line that is one byte longer than the limit", "too long\n", hint)?;

    let mut endless = Scene::new(new());
    for _ in 0..16 {
        endless.send(&[b'x'; 4096]);
    }
    ensure!(
        !endless.waits_for_more(),
        "64 KiB have come without a newline, and the protocol waits for more: measure `rest` before its newline \
         comes, too"
    );
    endless.expect("64 KiB without a newline", "too long\n", "it is answered once")?;

    // The answers fill the kernel's buffer, and some are in the transport when the connection has to end.
    for (event, rest, answer) in
        [("ended its side", 0, ""), ("sent a line that is too long", 300, "too long\n")]
    {
        let mut slow = Scene::new(new());
        while slow.buffered() < 8192 {
            let sent = slow.sent.len();
            slow.send(b"a line\n".repeat(100).as_slice());
            ensure!(
                slow.sent.len() > sent,
                "a slow peer sent {sent} bytes of short lines, and could not go on: the limit is for a line, not \
                 for a piece"
            );
        }
        let mut expected = slow.sent.to_ascii_uppercase();
        expected.extend(answer.as_bytes());
        let buffered = slow.buffered();
        slow.send(&vec![b'x'; rest]);
        slow.end();
        slow.receive()?;
        let received = slow.received.len();
        ensure!(
            received >= expected.len(),
            "a slow peer {event} when {buffered} bytes of answers were still buffered. Of {} bytes it got \
             {received}: `transport.abort` drops what is buffered, and `transport.close` sends it first",
            expected.len()
        );
        ensure!(slow.received == expected, "a slow peer {event}, and got wrong answers");
    }
    Ok(())
}

impl Scene {
    fn new<P: Protocol>(protocol: P) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        let ours = mio::net::UnixStream::from_std(ours);
        Connection::from_socket(&mut reactor, ours, protocol).unwrap();
        Scene { reactor, peer, sent: Vec::new(), received: Vec::new(), at_eof: false }
    }

    fn run(&mut self) {
        for _ in 0..10 {
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let count = self.peer.write(bytes).unwrap_or(0); // the connection may have ended
        self.sent.extend(&bytes[..count]);
        self.run();
    }

    /// The peer ends its side, and still reads.
    fn end(&mut self) {
        self.peer.shutdown(Shutdown::Write).unwrap();
        self.run();
    }

    /// The bytes that the peer has sent, and that have not come back.
    fn buffered(&self) -> usize {
        let arrived = rustix::io::ioctl_fionread(&self.peer).unwrap() as usize;
        self.sent.len().saturating_sub(self.received.len() + arrived)
    }

    /// Whether nothing was answered, and the connection is open.
    fn waits_for_more(&mut self) -> bool {
        let nothing = rustix::io::ioctl_fionread(&self.peer).unwrap() == 0;
        nothing && self.peer.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads all that comes.
    fn receive(&mut self) -> Verdict {
        let mut buffer = [0; 4096];
        let mut is_quiet = false;
        loop {
            match self.peer.read(&mut buffer) {
                Ok(0) => {
                    self.at_eof = true;
                    return Ok(());
                }
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    is_quiet = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && is_quiet => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_quiet = true,
                Err(error) => {
                    ensure!(
                        false,
                        "the peer's read failed: {error}. End the connection with `transport.close`"
                    )
                }
            }
            self.run();
        }
    }

    fn expect(&mut self, what: &str, answer: &str, hint: &str) -> Verdict {
        let had = self.received.len();
        self.receive()?;
        let received = self.received[had..].escape_ascii().to_string();
        let answer = answer.as_bytes().escape_ascii().to_string();
        ensure!(received == answer, "after {what}, the peer got `{received}`, not `{answer}`: {hint}");
        Ok(())
    }
}
