//! The real connection: the same events as in the model, on a pair of sockets.
//!
//! Invariant: before the loop runs, everything that the peer did has arrived. So each run of the
//! same events has the same result.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use echo_reactor::observe::ConnectionState;
use echo_reactor::{
    CloseReason, Connection, ConnectionLost, Handle, Protocol, Reactor, Socket, Transport, mio,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::common::{PATIENCE, noise};
use crate::events::{Action, Callback, Event, Kind, Peer, Reason};
use crate::model::State;

/// The size of a large write: more than both kernel buffers hold.
const LARGE: usize = 200_000;
const KERNEL_BUFFER: usize = 8 * 1024;
/// Longer than the idle and the linger timeout.
const LONG: Duration = Duration::from_secs(200);

#[derive(Default)]
struct Log {
    callbacks: Vec<Callback>,
    in_next_callback: Option<Action>,
    written: usize,
    received: usize,
}

struct Recorder(Rc<RefCell<Log>>);

impl Recorder {
    fn record(&mut self, callback: Callback, transport: &mut Transport) {
        self.0.borrow_mut().callbacks.push(callback);
        let action = self.0.borrow_mut().in_next_callback.take();
        if let Some(action) = action {
            act(action, transport, &self.0);
        }
    }
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_write_marks(1000, 0);
        self.record(Callback::Made, transport);
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        for &byte in data {
            let expected = self.0.borrow().received as u8;
            assert_eq!(byte, expected, "a byte of the peer is lost, repeated or out of order");
            self.0.borrow_mut().received += 1;
        }
        self.record(Callback::Data, transport);
    }
    fn eof_received(&mut self, transport: &mut Transport) {
        self.record(Callback::Eof, transport);
    }
    fn pause_writing(&mut self, transport: &mut Transport) {
        self.record(Callback::PauseWriting, transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.record(Callback::ResumeWriting, transport);
    }
    fn woken(&mut self, transport: &mut Transport) {
        self.record(Callback::Woken, transport);
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        let reason = match lost.reason {
            CloseReason::Closed => Reason::Closed,
            CloseReason::Aborted => Reason::Aborted,
            CloseReason::IdleTimeout => Reason::IdleTimeout,
            CloseReason::LingerTimeout => Reason::LingerTimeout,
            _ => Reason::Failed,
        };
        self.0.borrow_mut().callbacks.push(Callback::Lost(reason));
    }
}

fn act(action: Action, transport: &mut Transport, log: &RefCell<Log>) {
    match action {
        Action::WriteSmall => write(1, transport, log),
        Action::WriteLarge => write(LARGE, transport, log),
        Action::Pause => transport.pause_reading(),
        Action::Resume => transport.resume_reading(),
        Action::WriteEof => transport.write_eof(),
        Action::Close => transport.close(),
        Action::SetIdleTimeout => transport.set_idle_timeout(Some(LONG / 2)),
        Action::Abort => transport.abort(),
        Action::Remove => {
            let id = transport.id();
            transport.reactor().remove(id);
        }
    }
}

thread_local! {
    /// Our side writes these bytes.
    static SOURCE: Vec<u8> = noise(8 << 20, 5);
}

fn write(count: usize, transport: &mut Transport, log: &RefCell<Log>) {
    let start = log.borrow().written;
    let flow = SOURCE.with(|source| transport.write(&source[start..start + count]));
    if flow != echo_reactor::Flow::Closed {
        log.borrow_mut().written += count;
    }
}

/// A reactor with the connection under test and its peer.
pub struct World<'a> {
    kind: Kind,
    reactor: &'a mut Reactor,
    handle: Handle<Connection<Recorder>>,
    now: Instant,
    log: Rc<RefCell<Log>>,
    peer: Option<UnixStream>, // what it uses is the same for TCP
    sent: usize,
    got: Vec<u8>,
}

impl<'a> World<'a> {
    pub fn new(kind: Kind, reactor: &'a mut Reactor, listener: &std::net::TcpListener) -> Self {
        let (ours, peer): (Socket, UnixStream) = match kind {
            Kind::Unix => {
                let (ours, peer) = mio::net::UnixStream::pair().unwrap();
                (ours.into(), OwnedFd::from(peer).into())
            }
            Kind::Tcp => {
                let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (peer, _) = listener.accept().unwrap();
                for socket in [&ours, &peer] {
                    socket.set_nodelay(true).unwrap();
                }
                (mio::net::TcpStream::from_std(ours).into(), OwnedFd::from(peer).into())
            }
        };
        sockopt::set_socket_send_buffer_size(&ours, KERNEL_BUFFER).unwrap();
        peer.set_nonblocking(true).unwrap();
        let log = Rc::new(RefCell::new(Log::default()));
        let now = Instant::now();
        reactor.set_now(now);
        let handle = Connection::from_socket(reactor, ours, Recorder(log.clone())).unwrap();
        World { kind, reactor, handle, now, log, peer: Some(peer), sent: 0, got: Vec::new() }
    }

    pub fn take(&mut self, event: Event) {
        match event {
            Event::Do(Action::Remove) => drop(self.reactor.remove(self.handle.id())),
            Event::Do(action) => {
                let log = self.log.clone();
                let _ = self.handle.enter(self.reactor, |_, transport| act(action, transport, &log));
            }
            Event::PeerWrites => {
                self.peer.as_ref().unwrap().write_all(&[self.sent as u8]).unwrap();
                self.sent += 1;
                self.wait_for(PollFlags::IN);
            }
            Event::PeerEnds => {
                self.peer.as_ref().unwrap().shutdown(Shutdown::Write).unwrap();
                self.wait_for(PollFlags::RDHUP);
            }
            Event::PeerCloses => {
                self.peer_reads(); // a Unix socket that closes with unread bytes causes an error
                let peer = self.peer.take().unwrap();
                if self.kind == Kind::Tcp {
                    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
                }
                drop(peer);
                self.wait_for(PollFlags::HUP);
            }
            Event::Turn => self.turns(),
            Event::TurnIn(action) => {
                self.log.borrow_mut().in_next_callback = Some(action);
                self.turns();
                self.log.borrow_mut().in_next_callback = None;
            }
            Event::PeerReads => {
                let deadline = Instant::now() + PATIENCE;
                while self.reactor.get(self.handle).is_ok() {
                    self.turns();
                    self.peer_reads();
                    if self.buffered() == 0 {
                        break;
                    }
                    assert!(Instant::now() < deadline, "the peer reads, but the write buffer is not sent");
                }
                self.turns();
            }
            Event::Wake => {
                self.reactor.wake(self.handle.id());
                self.turns();
            }
            Event::TimePasses => {
                for _ in 0..4 {
                    self.turns();
                    self.now += LONG;
                    self.reactor.set_now(self.now);
                    self.turns();
                }
            }
        }
    }

    /// Checks the real connection against the model.
    pub fn assert_is(&mut self, state: &State, callbacks: &[Callback]) {
        let mut real = self.log.borrow().callbacks.clone();
        real.dedup_by(|a, b| a == b && *a == Callback::Data); // one byte may come with the next one
        let mut expected = callbacks.to_vec();
        expected.dedup_by(|a, b| a == b && *a == Callback::Data);
        assert_eq!(real, expected, "the callbacks");
        let halves = self.connection().map(|connection| (connection.read, connection.write));
        let (read, write) = (format!("{:?}", state.read), format!("{:?}", state.write));
        let expected = state.lost.is_none().then(|| (read.to_lowercase(), write.to_lowercase()));
        assert_eq!(halves.map(|(read, write)| (read.into(), write.into())), expected, "the halves");
        assert_eq!(self.buffered() > 0, state.lost.is_none() && state.is_blocked, "the write buffer");
        if let Some(reason) = state.lost {
            self.assert_is_over(reason, state);
        }
    }

    /// After the end, nothing is left and nothing has an effect.
    fn assert_is_over(&mut self, reason: Reason, state: &State) {
        self.turns();
        assert!(self.handle.enter(self.reactor, |_, _| ()).is_err());
        assert!(!self.reactor.wake(self.handle.id()));
        assert_eq!((self.reactor.source_count(), self.reactor.timer_count()), (0, 0), "something is left");
        assert!(matches!(self.log.borrow().callbacks.last(), Some(Callback::Lost(_))), "a late callback");
        if reason == Reason::Closed && !matches!(state.peer, Peer::Gone { .. }) {
            let peer = self.peer.as_mut().unwrap();
            peer.set_nonblocking(false).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            peer.read_to_end(&mut self.got).unwrap();
            assert_eq!(self.got.len(), self.log.borrow().written, "bytes that the peer has received");
        }
        SOURCE.with(|source| assert!(self.got == source[..self.got.len()], "the peer received wrong bytes"));
    }

    fn buffered(&self) -> usize {
        self.connection().map_or(0, |connection| connection.stats.buffered)
    }

    /// Returns the readiness that the connection remembers.
    pub fn ready(&self) -> String {
        self.connection().map_or_else(String::new, |connection| format!("{:?}", connection.ready))
    }

    fn connection(&self) -> Option<ConnectionState> {
        self.reactor.slot(self.handle.id())?.connection
    }

    fn turns(&mut self) {
        for _ in 0..3 {
            self.reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }

    fn peer_reads(&mut self) {
        let mut buffer = [0; 64 * 1024];
        while let Some(peer) = &mut self.peer
            && let Ok(count @ 1..) = peer.read(&mut buffer)
        {
            self.got.extend_from_slice(&buffer[..count]);
        }
    }

    /// Waits until what the peer did has arrived. On a Unix socket it has.
    fn wait_for(&mut self, flags: PollFlags) {
        let Ok(connection) = self.reactor.get(self.handle) else { return };
        let mut fds = [PollFd::new(connection, flags)];
        let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&timeout)), Ok(1), "the peer's action never arrives");
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.reactor.remove(self.handle.id());
    }
}
