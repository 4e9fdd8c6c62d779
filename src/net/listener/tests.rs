//! When the listener pauses, and when it ends. Here, serving a connection can fail with any error.

use super::*;
use std::net::TcpStream;
use std::time::Instant;

/// A listener with pending connections. Each of them fails with this error when it is served.
fn listen_and_fail(reactor: &mut Reactor, count: usize, error: i32) -> (Handle<Listener>, Vec<TcpStream>) {
    let options = ListenOptions::default();
    let sockets = ListeningSocket::bind_all(&["127.0.0.1:0".parse().unwrap()], &options).unwrap();
    let fail = move |_: &mut Reactor, _, _, _| Err(io::Error::from_raw_os_error(error));
    let listener = listen(reactor, sockets, &options, fail).unwrap();
    let address = listener.addresses(reactor).unwrap()[0].to_string();
    (listener, (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect())
}

#[test]
fn accepting_pauses_at_a_shortage_or_after_a_turn_of_failures_only() {
    for (error, per_call) in [(libc::EMFILE, 1), (libc::EPERM, ACCEPTS_PER_CALL)] {
        let mut reactor = Reactor::new().unwrap();
        let mut now = Instant::now();
        let (listener, _peers) = listen_and_fail(&mut reactor, 2 * per_call, error);
        for turn in 1..=2 {
            reactor.set_now(now);
            for _ in 0..3 {
                reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            assert_eq!(listener.stats(&reactor).unwrap().refused, (turn * per_call) as u64);
            assert_eq!(reactor.timer_count(), 1, "it will accept again");
            now += RETRY_DELAY;
        }
        reactor.set_now(now);
        reactor.turn(None).unwrap();
        assert_eq!(reactor.timer_count(), 0, "the shortage is over");
    }
}

#[test]
fn unusable_socket_ends_its_listener() {
    let mut reactor = Reactor::new().unwrap();
    let (listener, _) = listen_and_fail(&mut reactor, 0, 0);
    let socket = &reactor.get(listener).unwrap().sockets[0].socket;
    rustix::net::shutdown(socket, rustix::net::Shutdown::Both).unwrap(); // accept fails: EINVAL
    let stopped = std::rc::Rc::new(std::cell::Cell::new(false));
    let noted = stopped.clone();
    listener.on_stopped(&mut reactor, move |_| noted.set(true)).unwrap();
    assert!(reactor.run_until(Duration::from_secs(20), |_| stopped.get()).unwrap());
    assert_eq!(listener.addresses(&reactor), Ok(Vec::new()));
}
