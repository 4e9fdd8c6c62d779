//! Fuzzing the listener and the connector: bytes are commands, as in `reactor.rs`.
//!
//! Clients connect to listeners of the same reactor, to a backlog that is full, and to addresses on
//! which nobody listens. Each client sends its number, and the server sends it back. So each byte
//! shows which client is served, and that it is served once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, process};

use echo_reactor::{Address, ConnectOptions, Reactor, Socket, Task, Unavailable, create_connection, mio};
use rustix::net::getpeername;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::calls::{Call, Calls};
use super::descriptors;
use super::input::Input;

mod peer;
mod server;

use peer::{End, Peer, act};
use server::{Server, assert_counted, call_back, serve};

const MOST_CLIENTS: usize = 100;
const MOST_SERVERS: usize = 4;
const MOST_RAW: usize = 300;
/// 64 each time the listener is called: for an event, from the queue, and for a timer.
const ACCEPTS_PER_TURN: u64 = 3 * 64;

struct Script {
    input: Input,
    ends: Vec<End>,
    servers: Vec<Server>,
    /// How many connections to each address were established.
    connected: HashMap<Address, u64>,
    raw: Vec<Socket>,
    raw_count: usize,
    tasks: Vec<(Task<()>, Rc<RefCell<bool>>)>,
    now: Instant,
    /// Whether there are no descriptors left now, and whether there ever were none.
    is_short: bool,
    was_short: bool,
}

type Shared = Rc<RefCell<Script>>;

impl Script {
    fn add_end(&mut self, server: Option<usize>, addresses: Vec<Address>) -> usize {
        let servers = self.servers.len();
        let (handle, calls, received) = (None, Calls::default(), Vec::new());
        self.ends.push(End { handle, calls, server, addresses, servers, received, wake_is_due: false });
        self.ends.len() - 1
    }

    /// Chooses one to three addresses. The last possible choice is an address on which nobody
    /// listens.
    fn addresses(&self, argument: u8) -> Vec<Address> {
        let mut all: Vec<_> = self.servers.iter().flat_map(|server| server.addresses.clone()).collect();
        all.push(fresh_address(2));
        all.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into());
        let count = usize::from(argument % 4).max(1);
        (0..count).map(|more| all[(usize::from(argument / 4) + more) % all.len()].clone()).collect()
    }
}

/// Takes a command that needs only the reactor.
fn outside(script: &Shared, command: u8, reactor: &mut Reactor) {
    let argument = script.borrow_mut().input.byte();
    let chosen = usize::from(argument);
    let (servers, ends) = (script.borrow().servers.len(), script.borrow().ends.len());
    let server = (servers > 0).then(|| (chosen % servers, script.borrow().servers[chosen % servers].handle));
    let end = script.borrow().ends.get(chosen % ends.max(1)).and_then(|end| end.handle);
    match (command % 16, server, end) {
        (1, ..) if servers < MOST_SERVERS => serve(script, argument, reactor),
        (2..=4, ..) if ends < MOST_CLIENTS => connect(script, argument, reactor),
        (5, ..) => connect_raw(script, argument),
        (6, _, Some(handle)) => {
            script.borrow_mut().ends[chosen % ends].calls.has_closed |= reactor.contains(handle.id());
            reactor.remove(handle.id());
        }
        (7, Some((number, handle)), _) => {
            let is_closed = handle.close(reactor) != Err(Unavailable::Running);
            script.borrow_mut().servers[number].is_stopped |= is_closed;
        }
        (8, Some((number, handle)), _) => {
            let mut guard = script.borrow_mut();
            let server = &mut guard.servers[number];
            (server.is_stopped, server.is_removed) = (true, true);
            drop(guard);
            reactor.remove(handle.id());
        }
        (9, Some((number, handle)), _) => call_back(script, number, handle, argument, reactor),
        (10, _, Some(handle)) => {
            let is_woken = reactor.wake(handle.id());
            script.borrow_mut().ends[chosen % ends].wake_is_due |= is_woken;
        }
        (11, ..) => {
            let mut script = script.borrow_mut();
            script.now += Duration::from_millis(u64::from(argument) * 16);
            reactor.set_now(script.now);
        }
        (12, _, Some(handle)) => {
            let command = script.borrow_mut().input.byte();
            let _ = handle.enter(reactor, |peer, transport| act(script, peer.number, command, transport));
        }
        (13, Some((_, handle)), _) => {
            let command = script.borrow_mut().input.byte();
            let _ = reactor.with(handle, |_, reactor| outside(script, command, reactor));
        }
        (14, ..) => {
            let (shared, command) = (script.clone(), script.borrow_mut().input.byte());
            reactor.call_soon(move |reactor| outside(&shared, command, reactor));
        }
        (15, ..) => {
            if argument.is_multiple_of(2) {
                open_stream(script, argument / 2, reactor);
            } else if let Some((task, _)) = script.borrow_mut().tasks.pop() {
                task.cancel();
            }
        }
        _ => {}
    }
}

/// Returns an address that no other call returns.
fn fresh_address(kind: u8) -> Address {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("echo-fuzz-server-{}-{count}", process::id());
    match kind % 3 {
        0 if cfg!(target_os = "linux") => {
            let [_, a, b, c] = count.to_be_bytes();
            SocketAddr::from((Ipv4Addr::new(127, a | 64, b, c | 1), 0)).into()
        }
        0 => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        1 if cfg!(target_os = "linux") => Address::Abstract(name.into()),
        _ => Address::Unix(env::temp_dir().join(name)),
    }
}

fn connect(script: &Shared, argument: u8, reactor: &mut Reactor) {
    let mut guard = script.borrow_mut();
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_millis(u64::from(guard.input.byte()) * 20);
    let addresses = guard.addresses(argument);
    let number = guard.add_end(None, addresses.clone());
    drop(guard);
    let peer = Peer { number, script: script.clone() };
    let handle = create_connection(reactor, &addresses, &options, peer);
    script.borrow_mut().ends[number].handle = Some(handle);
}

/// Connects sockets that are no sources, and closes them again.
fn connect_raw(script: &Shared, argument: u8) {
    let mut script = script.borrow_mut();
    let address = script.addresses(argument & !3).remove(0);
    let count = if argument % 4 == 3 { 250 } else { 1 };
    for _ in 0..count {
        if script.is_short || script.raw_count == MOST_RAW {
            return;
        }
        script.raw_count += 1;
        let Ok(socket) = raw_socket(&address) else { return };
        if getpeername(&socket).is_ok() {
            *script.connected.entry(address.clone()).or_default() += 1;
        }
        if argument % 4 != 1 {
            script.raw.push(socket);
        }
    }
}

fn raw_socket(address: &Address) -> io::Result<Socket> {
    Ok(match address {
        Address::Tcp(address) => mio::net::TcpStream::connect(*address)?.into(),
        Address::Unix(path) => mio::net::UnixStream::connect(path)?.into(),
        Address::Abstract(_) => return Err(io::ErrorKind::Unsupported.into()), // only `connect` takes it
    })
}

/// Connects a stream. Its server reads no byte of it.
fn open_stream(script: &Shared, argument: u8, reactor: &mut Reactor) {
    let (addresses, has_finished) = (script.borrow().addresses(argument), Rc::new(RefCell::new(false)));
    let (handle, shared, finished) = (reactor.handle().unwrap(), script.clone(), has_finished.clone());
    let loop_handle = handle.clone();
    let task = handle.spawn(async move {
        let opened = loop_handle.open_connection(&addresses, &ConnectOptions::default()).await;
        match opened {
            Ok((reader, _writer)) => {
                let peer = reader.peer_addr().unwrap();
                assert!(addresses.contains(peer));
                *shared.borrow_mut().connected.entry(peer.clone()).or_default() += 1;
            }
            Err(error) => assert_eq!(error.attempts.len(), addresses.len(), "{error}"),
        }
        *finished.borrow_mut() = true;
    });
    script.borrow_mut().tasks.push((task, has_finished));
}

/// Runs a turn, perhaps without descriptors for new sockets.
fn turn(script: &Shared, is_short: bool, reactor: &mut Reactor) {
    let before: Vec<u64> = script.borrow().servers.iter().map(|server| server.accepted).collect();
    let limit = getrlimit(Resource::Nofile);
    if is_short {
        script.borrow_mut().was_short = true;
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
    }
    script.borrow_mut().is_short = is_short;
    let turned = reactor.turn(Some(Duration::ZERO));
    script.borrow_mut().is_short = false;
    if is_short {
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    turned.unwrap();
    for (server, before) in script.borrow().servers.iter().zip(before) {
        assert!(server.accepted <= before + ACCEPTS_PER_TURN, "a turn without a budget");
    }
    assert_counted(script, reactor);
    assert_timers(script, reactor);
}

/// Only a listener, a connector and a connection that closes have timers.
fn assert_timers(script: &Shared, reactor: &Reactor) {
    for id in reactor.timers().filter_map(|(_, id)| id) {
        let is_of = |end: &&End| end.handle.is_some_and(|handle| handle.id() == id);
        let end = script
            .borrow()
            .ends
            .iter()
            .find(is_of)
            .map(|end| end.calls.has(Call::Made) && !end.calls.has_closed);
        assert!(reactor.contains(id) && end != Some(true), "{id} has left a timer");
    }
}

pub fn run(data: &[u8]) {
    let mut reactor = Reactor::new().unwrap();
    reactor.remote().unwrap();
    let now = Instant::now();
    reactor.set_now(now);
    let descriptors = descriptors();
    let script = Rc::new(RefCell::new(Script {
        input: Input::new(data),
        ends: Vec::new(),
        servers: Vec::new(),
        connected: HashMap::new(),
        raw: Vec::new(),
        raw_count: 0,
        tasks: Vec::new(),
        now,
        is_short: false,
        was_short: false,
    }));
    for command in [1, 2] {
        outside(&script, command, &mut reactor); // so that short scripts find something
    }
    while !script.borrow().input.is_empty() {
        let command = script.borrow_mut().input.byte();
        match command % 3 {
            0 => turn(&script, command % 32 == 31, &mut reactor),
            _ => outside(&script, command / 3, &mut reactor),
        }
    }
    // Some scripts drop the reactor in the middle.
    if data.len().is_multiple_of(8) {
        script.borrow_mut().ends.iter_mut().for_each(|end| end.calls.has_closed = true);
        reactor = Reactor::new().unwrap();
        reactor.remote().unwrap();
        script.borrow_mut().raw.clear();
    } else {
        settle(&script, &mut reactor);
        assert_nothing_waits(&script);
        finish(&script, &mut reactor);
    }
    assert!(script.borrow().ends.iter().all(|end| end.calls.all.last() == Some(&Call::Lost)));
    assert_eq!(super::descriptors(), descriptors, "a descriptor is left");
    script.borrow_mut().tasks.clear();
    drop(reactor);
}

/// Runs turns until nothing happens any more, also not after the longest timeout.
fn settle(script: &Shared, reactor: &mut Reactor) {
    let mut quiet = 0;
    for turns in 0.. {
        assert!(turns < 10_000, "the loop spins");
        let before: usize = script.borrow().ends.iter().map(|end| end.calls.all.len() + 1).sum();
        turn(script, false, reactor);
        let after: usize = script.borrow().ends.iter().map(|end| end.calls.all.len() + 1).sum();
        quiet = if before == after && reactor.queue().is_empty() { quiet + 1 } else { 0 };
        match quiet {
            0..=2 => {}
            3..=8 => {
                script.borrow_mut().now += Duration::from_secs(11); // longer than every timeout to connect
                reactor.set_now(script.borrow().now);
            }
            _ => return,
        }
    }
}

fn assert_nothing_waits(script: &Shared) {
    let script = script.borrow();
    for end in &script.ends {
        assert!(!end.calls.all.is_empty(), "it neither connects nor fails");
        assert!(!end.wake_is_due || end.calls.has_closed || end.calls.has(Call::Lost), "a wake is lost");
    }
    for server in &script.servers {
        let connected = server.addresses.iter().filter_map(|address| script.connected.get(address)).sum();
        let is_full = server.open == server.limit;
        assert!(server.is_stopped || is_full || server.accepted >= connected, "{connected} connected");
    }
    assert!(script.tasks.iter().all(|(_, has_finished)| *has_finished.borrow()), "a stream waits");
}

/// Closes every connection and every listener. Nothing may be left.
fn finish(script: &Shared, reactor: &mut Reactor) {
    script.borrow_mut().raw.clear();
    script.borrow_mut().tasks.clear();
    let servers = script.borrow().servers.len();
    for number in 0..servers {
        let handle = script.borrow().servers[number].handle;
        for argument in [0, 128] {
            call_back(script, number, handle, argument, reactor);
        }
        script.borrow_mut().servers[number].is_stopped = true;
        let _ = handle.close(reactor);
    }
    let handles: Vec<_> = script.borrow().ends.iter().filter_map(|end| end.handle).collect();
    for handle in handles {
        let _ = handle.enter(reactor, |peer, transport| {
            transport.close();
            script.borrow_mut().ends[peer.number].calls.has_closed = true;
        });
    }
    settle(script, reactor);
    for server in &script.borrow().servers {
        for callbacks in [&server.on_stopped, &server.on_closed] {
            assert_eq!(callbacks.called, callbacks.registered, "a callback is lost");
        }
        let path = server.addresses.iter().find_map(|address| match address {
            Address::Unix(path) => Some(PathBuf::from(path)),
            _ => None,
        });
        assert!(path.is_none_or(|path| !path.exists()), "a socket file is left");
        reactor.remove(server.handle.id());
    }
    assert_eq!((reactor.source_count(), reactor.timer_count()), (0, 0), "a source or a timer is left");
}
