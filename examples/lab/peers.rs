//! The peers: clients of the observed loop. They belong to the other loop, so they continue while
//! the observed loop is held.
//!
//! Invariant: each peer has a letter from A to H, so there are at most eight. The number of bytes
//! that each peer has to send is bounded.
//!
//! Read next: `scenarios.rs`, which makes them act.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

use echo_reactor::{Address, Connection, ConnectionLost, Flow, Handle, Protocol, Reactor, Transport, mio};
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::log::{Entry, bytes};

/// The kernel's receive buffer for each peer in bytes. It is small, so that it is soon full.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// A peer with this many bytes to send refuses more.
const MOST_BUFFERED: usize = 4 << 20;
const MEGABYTE: usize = 1 << 20;
/// A flood ends after this many bytes.
const FLOOD: u64 = 4 << 30;

/// What a peer does without a command.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    None,
    /// Sends this many bytes as fast as it can.
    Flood(u64),
    /// Sends the next line when the last one has come back.
    PingPong,
}

struct Peer {
    letter: char,
    port: u16,
    handle: Handle<Connection<Client>>,
    state: Rc<RefCell<State>>,
}

struct State {
    habit: Habit,
    paused: bool,
    half_closed: bool,
    /// Whether the server has ended its side.
    eof: bool,
    received: u64,
    sent: u64,
    buffered: usize,
    /// How the connection ended.
    ended: Option<String>,
}

struct Client {
    letter: char,
    lab: Arc<Lab>,
    state: Rc<RefCell<State>>,
}

impl Client {
    fn note(&self, text: &str, chapter: &'static str) {
        self.lab.log().push(Entry::Peer(format!("Peer {} {text}", self.letter), chapter));
    }

    fn flood(&self, transport: &mut Transport) {
        let mut state = self.state.borrow_mut();
        while let Habit::Flood(left @ 1..) = &mut state.habit {
            *left = left.saturating_sub(65536);
            if transport.write(&[b'~'; 65536]) != Flow::Open {
                break;
            }
        }
    }
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        if self.state.borrow().habit == Habit::PingPong {
            transport.write(data);
        }
    }

    fn eof_received(&mut self, _: &mut Transport) {
        self.state.borrow_mut().eof = true;
        self.note("learned that the server has ended its side.", "closing");
    }

    fn pause_writing(&mut self, _: &mut Transport) {} // keeps reading while writing is paused

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.flood(transport);
    }

    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        let mut state = self.state.borrow_mut();
        (state.received, state.sent, state.buffered) = (lost.bytes_in, lost.bytes_out, 0);
        state.ended = Some(lost.reason.to_string());
        drop(state);
        self.lab.letters().retain(|_, letter| *letter != self.letter);
        self.note(&format!("is gone: {}.", lost.reason), "closing");
    }
}

pub struct Peers {
    lab: Arc<Lab>,
    server: Address,
    all: Vec<Peer>,
}

/// Connects with a small receive buffer, which must be set before the connect.
fn connect_to(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    connect(&socket, &server)?; // on loopback the kernel answers at once
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Peers {
    pub fn new(lab: Arc<Lab>, server: Address) -> Self {
        Peers { lab, server, all: Vec::new() }
    }

    fn connect(&mut self, reactor: &mut Reactor, letter: char) -> Result<(), String> {
        self.all.retain(|peer| peer.letter != letter || peer.state.borrow().ended.is_none());
        if self.all.iter().any(|peer| peer.letter == letter) {
            return Err(format!("peer {letter} is connected already"));
        }
        let Address::Tcp(server) = self.server else { return Err("the server has no TCP address".into()) };
        let state = State {
            habit: Habit::None,
            paused: false,
            half_closed: false,
            eof: false,
            received: 0,
            sent: 0,
            buffered: 0,
            ended: None,
        };
        let state = Rc::new(RefCell::new(state));
        let mut letters = self.lab.letters();
        let connected = connect_to(server).and_then(|stream| {
            let port = stream.local_addr()?.port();
            letters.insert(port, letter);
            let client = Client { letter, lab: self.lab.clone(), state: state.clone() };
            let stream = mio::net::TcpStream::from_std(stream);
            Ok((port, Connection::from_socket(reactor, stream, client)?))
        });
        drop(letters);
        let (port, handle) = connected.map_err(|error| format!("peer {letter} cannot connect: {error}"))?;
        self.lab.log().push(Entry::Peer(format!("Peer {letter} connected."), "blocking"));
        self.all.push(Peer { letter, port, handle, state });
        self.all.sort_by_key(|peer| peer.letter);
        Ok(())
    }

    /// Returns the first letter that no peer has.
    pub fn free_letter(&self) -> Option<char> {
        let is_used = |letter: &char| {
            self.all.iter().any(|peer| peer.letter == *letter && peer.state.borrow().ended.is_none())
        };
        ('A'..='H').find(|letter| !is_used(letter))
    }

    /// Aborts all peers, and forgets them.
    pub fn clear(&mut self, reactor: &mut Reactor) {
        for peer in self.all.drain(..) {
            reactor.remove(peer.handle.id());
        }
    }

    /// Returns the port of a peer that is connected.
    pub fn port(&self, letter: char) -> Result<u16, String> {
        self.all
            .iter()
            .find(|peer| peer.letter == letter && peer.state.borrow().ended.is_none())
            .map(|peer| peer.port)
            .ok_or_else(|| format!("peer {letter} is not connected"))
    }

    /// Makes a peer do something.
    pub fn act(&mut self, reactor: &mut Reactor, letter: char, action: &str) -> Result<(), String> {
        if action == "connect" {
            return self.connect(reactor, letter);
        }
        self.port(letter)?;
        let Some(peer) = self.all.iter().find(|peer| peer.letter == letter) else { return Ok(()) };
        let acted = peer.handle.enter(reactor, |client, transport| client.act(action, transport));
        acted.unwrap_or_else(|error| Err(format!("peer {letter} cannot act: {error}")))
    }

    pub fn to_json(&self, reactor: &mut Reactor) -> Value {
        let one = |peer: &Peer| {
            let now = peer.handle.enter(reactor, |_, transport| {
                (transport.bytes_in(), transport.bytes_out(), transport.buffered())
            });
            let mut state = peer.state.borrow_mut();
            if let Ok(now) = now {
                (state.received, state.sent, state.buffered) = now;
            }
            json!({
                "name": peer.letter.to_string(), "sent": state.sent, "received": state.received,
                "unsent": state.buffered, "reading": !state.paused, "halfClosed": state.half_closed,
                "eof": state.eof, "flooding": matches!(state.habit, Habit::Flood(1..)),
                "pingPong": state.habit == Habit::PingPong, "ended": state.ended,
            })
        };
        self.all.iter().map(one).collect()
    }
}

impl Client {
    fn act(&mut self, action: &str, transport: &mut Transport) -> Result<(), String> {
        let chapter = match action {
            "stop-reading" | "read" | "megabyte" => "backpressure",
            "half-close" | "reset" | "leave" => "closing",
            "flood" | "stop-flood" => "budget",
            _ => "edge",
        };
        let text = match action {
            "line" | "megabyte" | "remove-others" | "ping-pong" => {
                let message = match action {
                    "megabyte" => vec![b'm'; MEGABYTE],
                    "remove-others" => crate::observed::REMOVE_OTHERS.to_vec(),
                    _ => format!("hello from {}\n", self.letter).into_bytes(),
                };
                if self.state.borrow().half_closed {
                    return Err(format!("peer {} has ended its side", self.letter));
                }
                if transport.buffered() + message.len() > MOST_BUFFERED {
                    return Err(format!("peer {} has too much to send already", self.letter));
                }
                if action == "ping-pong" {
                    self.state.borrow_mut().habit = Habit::PingPong;
                }
                transport.write(&message);
                format!("sent {}.", bytes(message.len() as u64))
            }
            "flood" => {
                self.state.borrow_mut().habit = Habit::Flood(FLOOD);
                self.flood(transport);
                "began to send without a pause.".into()
            }
            "stop-flood" => {
                self.state.borrow_mut().habit = Habit::None;
                "stopped sending.".into()
            }
            "stop-reading" => {
                transport.pause_reading();
                self.state.borrow_mut().paused = true;
                "stopped reading.".into()
            }
            "read" => {
                transport.resume_reading();
                self.state.borrow_mut().paused = false;
                "reads again.".into()
            }
            "half-close" => {
                let mut state = self.state.borrow_mut();
                (state.half_closed, state.habit) = (true, Habit::None);
                transport.write_eof();
                "ended its side; it still reads.".into()
            }
            "leave" => {
                self.state.borrow_mut().habit = Habit::None;
                transport.close();
                "closed its connection.".into()
            }
            "reset" => {
                transport.abort();
                "reset its connection.".into()
            }
            other => return Err(format!("there is no action '{other}'")),
        };
        self.note(&text, chapter);
        Ok(())
    }
}
