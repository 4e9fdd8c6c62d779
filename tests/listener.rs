//! Listening: several addresses or none, a limit on connections, and the files of Unix sockets.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use common::{DeadPort, Echo, Scratch, has_descriptors, has_ipv6, ping, turn_until, turn_until_quiet};
use echo_reactor::{
    Address, Connection, Handle, ListenOptions, Listener, Protocol, Reactor, Transport, create_server,
};

fn any() -> Address {
    SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

fn unix(path: &Path) -> Address {
    Address::Unix(path.into())
}

fn serve(reactor: &mut Reactor, addresses: &[Address], options: &ListenOptions) -> Handle<Listener> {
    create_server(reactor, addresses, options, || Echo).unwrap()
}

fn open(reactor: &mut Reactor, listener: Handle<Listener>) -> usize {
    listener.stats(reactor).unwrap().open
}

fn address(reactor: &mut Reactor, listener: Handle<Listener>) -> String {
    listener.addresses(reactor).unwrap()[0].to_string()
}

fn connect_many(reactor: &mut Reactor, listener: Handle<Listener>, count: usize) -> Vec<TcpStream> {
    let address = address(reactor, listener);
    (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect()
}

/// A listener with this many pending connections.
fn serve_many(reactor: &mut Reactor, count: usize) -> (Handle<Listener>, Vec<TcpStream>) {
    let listener = serve(reactor, &[any()], &ListenOptions::default());
    (listener, connect_many(reactor, listener, count))
}

#[test]
fn listener_listens_on_all_its_addresses() {
    let mut reactor = Reactor::new().unwrap();
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut asked = vec![unix(&path), any(), any()];
    if has_ipv6() {
        asked.push("[::1]:0".parse().unwrap());
    }
    let listener = serve(&mut reactor, &asked, &ListenOptions::default());
    let addresses = listener.addresses(&reactor).unwrap();
    assert_eq!(addresses.len(), asked.len());
    assert_eq!(addresses[0].to_string(), format!("unix:{}", path.display()));
    let _unix = UnixStream::connect(&path).unwrap();
    let connect = |address: &Address| TcpStream::connect(address.to_string()).unwrap();
    let _tcp: Vec<_> = addresses[1..].iter().map(connect).collect();
    turn_until(&mut reactor, "all connections are accepted", |reactor| {
        open(reactor, listener) == asked.len()
    });
}

#[test]
fn one_failed_address_leaves_no_socket_behind() {
    let mut reactor = Reactor::new().unwrap();
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let addresses = [unix(&path), Address::Unix("/nonexistent/socket".into())];
    let error = create_server(&mut reactor, &addresses, &ListenOptions::default(), || Echo).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "cannot listen on unix:/nonexistent/socket: No such file or directory");
    assert!(!path.exists());
    assert_eq!(reactor.source_count(), 0);
}

#[test]
fn port_in_use_is_named_in_the_error() {
    let mut reactor = Reactor::new().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let error = create_server(&mut reactor, &[taken.into()], &ListenOptions::default(), || Echo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("cannot listen on {taken}: Address already in use"));
}

#[test]
fn listeners_share_a_port_if_both_set_reuse_port() {
    let mut reactor = Reactor::new().unwrap();
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    let first = serve(&mut reactor, &[any()], &options);
    let same: SocketAddr = address(&mut reactor, first).parse().unwrap();
    serve(&mut reactor, &[same.into()], &options);
    let options = ListenOptions::default();
    assert!(create_server(&mut reactor, &[same.into()], &options, || Echo).is_err());
}

#[test]
fn ipv6_wildcard_excludes_ipv4_only_if_both_are_listed() {
    if !has_ipv6() {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let any6 = |port| Address::from(SocketAddr::from(([0_u16; 8], port)));
    let both = serve(&mut reactor, &[any6(0)], &ListenOptions::default());
    let port = address(&mut reactor, both).rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let _v4 = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _v6 = TcpStream::connect(("::1", port)).unwrap();
    turn_until(&mut reactor, "both families are accepted", |reactor| open(reactor, both) == 2);
    both.close(&mut reactor).unwrap();
    let any4 = Address::from(SocketAddr::from(([0; 4], port)));
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    let separate = serve(&mut reactor, &[any4, any6(port)], &options);
    assert_eq!(separate.addresses(&reactor).unwrap().len(), 2);
}

#[test]
fn listener_at_its_limit_accepts_after_a_close() {
    let mut reactor = Reactor::new().unwrap();
    let mut options = ListenOptions::default();
    options.max_connections = Some(2);
    let listener = serve(&mut reactor, &[any()], &options);
    let address = address(&mut reactor, listener);
    let mut peers: Vec<_> = (0..5).map(|_| TcpStream::connect(&address).unwrap()).collect();
    turn_until(&mut reactor, "two connections are accepted", |reactor| open(reactor, listener) == 2);
    for served in 3..=5 {
        turn_until_quiet(&mut reactor);
        assert_eq!(open(&mut reactor, listener), 2);
        peers.remove(0);
        turn_until(&mut reactor, "the next connection is accepted", |reactor| {
            listener.stats(reactor).unwrap().accepted == served
        });
    }
}

#[test]
fn connections_beyond_one_accept_budget_are_all_accepted() {
    if !has_descriptors(600) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let (listener, _peers) = serve_many(&mut reactor, 200);
    reactor.turn(None).unwrap();
    assert!(open(&mut reactor, listener) < 200, "one turn accepted all of them");
    turn_until(&mut reactor, "all connections are accepted", |reactor| open(reactor, listener) == 200);
}

#[test]
fn closed_listener_keeps_connections_and_reports_the_last_close() {
    let held = DeadPort::new(); // so that no other test listens there afterwards
    let mut options = ListenOptions::default();
    options.reuse_port = true;
    let mut reactor = Reactor::new().unwrap();
    let listener = serve(&mut reactor, &[held.1.into()], &options);
    let address = address(&mut reactor, listener);
    let peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the peer is accepted", |reactor| open(reactor, listener) == 1);
    listener.close(&mut reactor).unwrap();
    TcpStream::connect(&address).unwrap_err(); // shows both addresses of a connection
    listener.on_closed(&mut reactor, Reactor::stop).unwrap();
    let thread = std::thread::spawn(move || {
        let mut peer = peer;
        ping(&mut peer, b"still here");
    });
    reactor.run().unwrap();
    thread.join().unwrap();
    let stats = listener.stats(&reactor).unwrap();
    assert_eq!((stats.open, stats.bytes_in, stats.bytes_out), (0, 10, 10));
}

#[test]
fn connection_closed_in_its_first_callback_is_no_longer_counted() {
    struct AbortsAtOnce;
    impl Protocol for AbortsAtOnce {
        fn connection_made(&mut self, transport: &mut Transport) {
            transport.abort();
        }
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
    }
    let mut reactor = Reactor::new().unwrap();
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let listener = create_server(&mut reactor, &[any()], &options, || AbortsAtOnce).unwrap();
    let address = address(&mut reactor, listener);
    let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(&address).unwrap()).collect();
    turn_until(&mut reactor, "all three connections were accepted and closed", |reactor| {
        let totals = listener.stats(reactor).unwrap();
        (totals.accepted, totals.open) == (3, 0)
    });
    assert!(reactor.handles::<Connection<AbortsAtOnce>>().is_empty());
}

#[test]
fn stale_socket_file_is_replaced_and_removed_at_the_end() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    drop(UnixListener::bind(&path).unwrap()); // its file stays
    assert!(path.exists());
    let mut reactor = Reactor::new().unwrap();
    serve(&mut reactor, &[unix(&path)], &ListenOptions::default());
    UnixStream::connect(&path).unwrap();
    drop(reactor);
    assert!(!path.exists());
}

#[test]
fn live_socket_or_other_file_is_an_error_and_is_kept() {
    let scratch = Scratch::new();
    let mut reactor = Reactor::new().unwrap();
    let live = scratch.path("live");
    let _holder = UnixListener::bind(&live).unwrap();
    let file = scratch.file("file", b"precious");
    for (path, reason) in [(&live, "Address already in use"), (&file, "the file exists and is not a socket")]
    {
        let error =
            create_server(&mut reactor, &[unix(path)], &ListenOptions::default(), || Echo).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on unix:{}: {reason}", path.display()));
    }
    UnixStream::connect(&live).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn socket_file_of_another_server_is_kept() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut reactor = Reactor::new().unwrap();
    serve(&mut reactor, &[unix(&path)], &ListenOptions::default());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(reactor);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn accepted_sockets_inherit_options_of_the_listening_socket() {
    let mut reactor = Reactor::new().unwrap();
    let listener = serve(&mut reactor, &[any()], &ListenOptions::default());
    let address = address(&mut reactor, listener);
    let _peer = TcpStream::connect(&address).unwrap();
    turn_until(&mut reactor, "the peer is accepted", |reactor| open(reactor, listener) == 1);
    let handle = reactor.handles::<Connection<Echo>>()[0];
    reactor
        .with(handle, |connection, _| {
            assert!(rustix::net::sockopt::tcp_nodelay(&*connection).unwrap());
            assert!(rustix::net::sockopt::socket_keepalive(&*connection).unwrap());
            assert!(rustix::net::sockopt::socket_oobinline(&*connection).unwrap());
        })
        .unwrap();
}

#[test]
fn addresses_are_served_in_turn_at_the_limit() {
    let mut reactor = Reactor::new().unwrap();
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let listener = serve(&mut reactor, &[any(), any(), any()], &options);
    let addresses = listener.addresses(&reactor).unwrap();
    // Ten peers wait on each address. Each one closes as soon as it is served.
    let mut waiting: Vec<_> = addresses
        .iter()
        .flat_map(|address| (0..10).map(|_| TcpStream::connect(address.to_string()).unwrap()))
        .map(|peer| (peer.peer_addr().unwrap(), peer))
        .collect();
    let mut served = Vec::new();
    for _ in 0..9 {
        turn_until(&mut reactor, "the next peer is accepted", |reactor| open(reactor, listener) == 1);
        let connection = reactor.handles::<Connection<Echo>>()[0];
        let (own, peer) = connection
            .enter(&mut reactor, |_, transport| {
                (transport.local_addr().unwrap(), transport.peer_addr().unwrap().clone())
            })
            .unwrap();
        served.push(addresses.iter().position(|address| *address == own).unwrap());
        waiting.retain(|(_, stream)| peer != Address::from(stream.local_addr().unwrap()));
        turn_until(&mut reactor, "its connection is closed", |reactor| !reactor.contains(connection.id()));
    }
    for three in served.chunks(3) {
        let mut three = three.to_vec();
        three.sort_unstable();
        assert_eq!(three, [0, 1, 2], "{served:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn closed_listener_gets_no_events_even_if_its_socket_is_shared() {
    let mut reactor = Reactor::new().unwrap();
    let listener = serve(&mut reactor, &[any()], &ListenOptions::default());
    let address = address(&mut reactor, listener);
    // This duplicate acts as another process that has inherited the socket. Other tests have
    // listening sockets, too, and a duplicate of theirs would still accept connections.
    let pid = rustix::process::getpid();
    let fds = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let shared: Vec<_> = fds
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|fd| {
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
            rustix::process::pidfd_getfd(&pidfd, fd, rustix::process::PidfdGetfdFlags::empty()).ok()
        })
        .filter(|fd| rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false))
        .map(TcpListener::from)
        .filter(|socket| socket.local_addr().is_ok_and(|local| local.to_string() == address))
        .collect();
    assert!(!shared.is_empty());
    listener.close(&mut reactor).unwrap();
    turn_until_quiet(&mut reactor);
    let _peer = TcpStream::connect(&address).unwrap(); // it stays in the backlog
    let began = std::time::Instant::now();
    reactor.turn(Some(std::time::Duration::from_millis(30))).unwrap();
    assert!(began.elapsed() >= std::time::Duration::from_millis(30), "an event woke the loop");
}
