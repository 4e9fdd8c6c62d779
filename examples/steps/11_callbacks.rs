//! Step 11: callbacks. The loop is that of step 9, and no longer contains the echo.
//!
//! The loop calls a `Protocol` when something happens to its connection. The protocol acts through
//! a `Transport`, which has the socket and the write buffer. The two marks are callbacks too. Their
//! default is to pause and to resume reading, so every protocol has backpressure. A protocol has to
//! keep its state between two callbacks by hand.
//!
//! Try: write a protocol that sends `data.to_ascii_uppercase()`. It is `Echo` with one more call.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SLOTS: usize = 1 << 32;
const BUFFER_SIZE: usize = 1 << 14;
const BUDGET: usize = 16;
const HIGH_WATER: usize = 1 << 16;
const LOW_WATER: usize = 1 << 14;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let idle_limit = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(60_000_u32);
    let mut server = Server::new(TcpListener::from_std(listener), Duration::from_millis(idle_limit.into()))?;
    let loop_waker = server.loop_waker.clone();
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || wait_for_stop(&sender, &loop_waker));
    let mut events = Events::with_capacity(64);
    while server.listener.is_some() || !server.connections.is_empty() {
        server.turn(&mut events)?;
        for () in messages.try_iter() {
            server.listener = None;
        }
    }
    Ok(())
}

/// Runs in a thread of its own, because reading stdin blocks.
fn wait_for_stop(sender: &mpsc::Sender<()>, loop_waker: &Waker) {
    let mut lines = io::stdin().lines().map_while(Result::ok);
    if lines.any(|line| line == "stop") && sender.send(()).is_ok() {
        let _ = loop_waker.wake(); // the message first: the loop looks for it when it wakes
    }
}

/// The callbacks of a connection.
trait Protocol {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]);

    fn pause_writing(&mut self, transport: &mut Transport) {
        transport.pause_reading();
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
    }
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
}

struct Server {
    poll: Poll,
    /// `None` after `stop`.
    listener: Option<TcpListener>,
    connections: Table,
    /// Tokens of those that stopped early. They are called in the next turn.
    again: BTreeSet<Token>,
    /// Kept, because a waker that is dropped takes its wake-up with it.
    loop_waker: Arc<Waker>,
    timers: BTreeSet<(Instant, Token)>,
    idle_limit: Duration,
    buffer: Vec<u8>,
}

impl Server {
    fn new(mut listener: TcpListener, idle_limit: Duration) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let loop_waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (connections, again, timers) = (Table::default(), BTreeSet::new(), BTreeSet::new());
        let (listener, buffer) = (Some(listener), vec![0; BUFFER_SIZE]);
        Ok(Server { poll, listener, connections, again, loop_waker, timers, idle_limit, buffer })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let next_timer = self.timers.first().map(|(when, _)| when.saturating_duration_since(now));
        let timeout = if self.again.is_empty() { next_timer } else { Some(Duration::ZERO) };
        // The only call that sleeps. Ctrl-Z and `fg` interrupt it.
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut again = mem::take(&mut self.again);
        for event in &*events {
            again.remove(&event.token()); // this call is its call of this turn
            self.dispatch(event.token(), Some(event));
        }
        for token in again {
            self.dispatch(token, None);
        }
        // A timer decides when everything that came before it was due has been looked at. A full
        // list may have left something out, so the next list is larger.
        if events.iter().count() < events.capacity() {
            self.run_timers(now);
        } else {
            *events = Events::with_capacity(2 * events.capacity());
        }
        Ok(())
    }

    /// Runs the timers that were due before the poll.
    fn run_timers(&mut self, now: Instant) {
        let later = self.timers.split_off(&(now, Token(usize::MAX)));
        for (_, token) in mem::replace(&mut self.timers, later) {
            self.close(token); // a stale token finds nothing
        }
    }

    /// Closes a connection. This frees a descriptor, so `accept` may succeed again.
    fn close(&mut self, token: Token) {
        self.connections.free(token);
        self.again.insert(LISTENER);
    }

    fn accept(&mut self) {
        let mut failures = 0;
        for _ in 0..BUDGET {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An error may concern one connection only, so the next call may succeed.
                Err(_) if failures < BUDGET - 1 => failures += 1,
                // Every call has failed, for example because no descriptor is left.
                Err(error) => return eprintln!("accept: {error}"), // `close` calls it again
            }
        }
        self.again.insert(LISTENER);
    }

    fn add(&mut self, mut stream: TcpStream) {
        let token = self.connections.reserve();
        let deadline = Instant::now() + self.idle_limit;
        self.timers.insert((deadline, token));
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, token, both) {
            Ok(()) => self.connections.put_back(token, Connection::new(stream, deadline, Box::new(Echo))),
            Err(error) => {
                eprintln!("connection: {error}");
                self.connections.free(token);
            }
        }
    }

    fn dispatch(&mut self, token: Token, event: Option<&Event>) {
        if token == LISTENER {
            return self.accept();
        }
        let Some(mut connection) = self.connections.take_out(token) else { return };
        match connection.serve(event, self) {
            Next::Done => return self.close(token),
            Next::Again => drop(self.again.insert(token)),
            Next::Wait => {}
        }
        self.timers.remove(&(connection.deadline, token));
        connection.deadline = Instant::now() + self.idle_limit;
        self.timers.insert((connection.deadline, token));
        self.connections.put_back(token, connection);
    }
}

/// The connections, and an empty place for each one that is taken out.
#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: usize,
    connection: Option<Connection>,
}

impl Table {
    fn reserve(&mut self) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        Token(self.slots[index].generation * SLOTS + index)
    }

    /// The slot of a token, unless the token is stale.
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.0 % SLOTS)?;
        (slot.generation == token.0 / SLOTS).then_some(slot)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn take_out(&mut self, token: Token) -> Option<Connection> {
        self.slot(token)?.connection.take()
    }

    fn put_back(&mut self, token: Token, connection: Connection) {
        if let Some(slot) = self.slot(token) {
            slot.connection = Some(connection);
        }
    }

    fn free(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            *slot = Slot { generation: (slot.generation + 1) % SLOTS, connection: None };
            self.free.push(token.0 % SLOTS);
        }
    }
}

/// The next call of a connection.
enum Next {
    /// When an event comes.
    Wait,
    /// In the next turn.
    Again,
    /// Never.
    Done,
}

/// The state of one direction.
#[derive(PartialEq)]
enum Direction {
    On,
    Paused,
    Ended,
}

struct Connection {
    deadline: Instant,
    transport: Transport,
    protocol: Box<dyn Protocol>,
}

/// The socket of a connection, and its write buffer.
struct Transport {
    stream: TcpStream,
    /// Bytes that were read and are not written yet.
    unsent: VecDeque<u8>,
    reading: Direction,
    /// Paused while too much is unsent.
    writing: Direction,
    readable: bool,
    writable: bool,
}

impl Connection {
    fn new(stream: TcpStream, deadline: Instant, protocol: Box<dyn Protocol>) -> Self {
        let (unsent, reading, writing) = (VecDeque::new(), Direction::On, Direction::On);
        let transport = Transport { stream, unsent, reading, writing, readable: false, writable: false };
        Connection { deadline, transport, protocol }
    }

    fn serve(&mut self, event: Option<&Event>, server: &mut Server) -> Next {
        self.transport.readable |= event.is_some_and(Event::is_readable);
        self.transport.writable |= event.is_some_and(Event::is_writable);
        self.exchange(server).unwrap_or_else(|error| {
            eprintln!("connection: {error}");
            Next::Done
        })
    }

    fn exchange(&mut self, server: &mut Server) -> io::Result<Next> {
        for _ in 0..BUDGET {
            if !self.transport.can_read() && !self.transport.can_write() {
                let is_done = self.transport.writing == Direction::Ended && self.transport.unsent.is_empty();
                return Ok(if is_done { Next::Done } else { Next::Wait });
            }
            if self.transport.can_read() {
                self.receive(&mut server.buffer)?;
            }
            if self.transport.can_write() {
                self.send()?;
            }
        }
        Ok(Next::Again)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Connection { transport, protocol, .. } = self;
        match transport.stream.read(buffer) {
            Ok(0) => transport.close(),
            Ok(count) => protocol.data_received(transport, &buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => transport.readable = false,
            Err(error) => return Err(error),
        }
        if transport.writing == Direction::On && transport.unsent.len() >= HIGH_WATER {
            transport.writing = Direction::Paused;
            protocol.pause_writing(transport);
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let Connection { transport, protocol, .. } = self;
        match transport.stream.write(transport.unsent.as_slices().0) {
            Ok(count) => drop(transport.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => transport.writable = false,
            Err(error) => return Err(error),
        }
        if transport.unsent.is_empty() {
            transport.unsent = VecDeque::new(); // gives its memory back
        }
        if transport.writing == Direction::Paused && transport.unsent.len() <= LOW_WATER {
            transport.writing = Direction::On;
            protocol.resume_writing(transport);
        }
        Ok(())
    }
}

impl Transport {
    fn can_read(&self) -> bool {
        self.readable && self.reading == Direction::On
    }

    fn can_write(&self) -> bool {
        self.writable && !self.unsent.is_empty()
    }

    /// Keeps the bytes. They are sent after the callback, in this turn if there is room.
    /// After `close` they are dropped.
    fn write(&mut self, data: &[u8]) {
        if self.writing != Direction::Ended {
            self.unsent.extend(data);
        }
    }

    /// Ends the connection when everything is sent.
    fn close(&mut self) {
        (self.reading, self.writing) = (Direction::Ended, Direction::Ended);
    }

    fn pause_reading(&mut self) {
        if self.reading == Direction::On {
            self.reading = Direction::Paused;
        }
    }

    fn resume_reading(&mut self) {
        if self.reading == Direction::Paused {
            self.reading = Direction::On;
        }
    }
}
