//! When the listener pauses, and when it ends. Here, serving a connection can fail with any error.

use super::*;
use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Instant;

/// A listener with pending connections. Serving one of them fails with this error, unless it is 0.
fn listen_and_fail(
    reactor: &mut Reactor,
    count: usize,
    error: &Rc<Cell<i32>>,
) -> (Handle<Listener>, Vec<TcpStream>) {
    let error = error.clone();
    let options = ListenOptions::default();
    let sockets = ListeningSocket::bind_all(&["127.0.0.1:0".parse().unwrap()], &options).unwrap();
    let serve = move |_: &mut Reactor, _, _, _| match error.get() {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    };
    let listener = listen(reactor, sockets, &options, serve).unwrap();
    let address = listener.addresses(reactor).unwrap()[0].to_string();
    (listener, (0..count).map(|_| TcpStream::connect(&address).unwrap()).collect())
}

#[test]
fn accepting_pauses_at_a_shortage_or_after_a_turn_of_failures_only() {
    for (error, per_call) in [(libc::EMFILE, 1), (libc::EPERM, ACCEPTS_PER_CALL)] {
        let mut reactor = Reactor::new().unwrap();
        let mut now = Instant::now();
        let (listener, _peers) = listen_and_fail(&mut reactor, 2 * per_call, &Rc::new(Cell::new(error)));
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
fn shortage_goes_on_until_the_timer_even_if_a_connection_is_served() {
    let mut reactor = Reactor::new().unwrap();
    let now = Instant::now();
    reactor.set_now(now);
    let error = Rc::new(Cell::new(libc::EMFILE));
    let (listener, _peers) = listen_and_fail(&mut reactor, 1, &error);
    reactor.turn(None).unwrap();
    error.set(0);
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let _served = TcpStream::connect(address).unwrap();
    let accepted = |reactor: &mut Reactor| listener.stats(reactor).unwrap().accepted == 1;
    assert!(reactor.run_until(Duration::from_secs(20), accepted).unwrap());
    assert!(reactor.get(listener).unwrap().retry.is_some());
    reactor.set_now(now + RETRY_DELAY);
    reactor.turn(None).unwrap();
    assert!(reactor.get(listener).unwrap().retry.is_none());
}

#[test]
fn unusable_socket_ends_its_listener() {
    let name = format!("unix:{}/echo-reactor-{}", std::env::temp_dir().display(), std::process::id());
    for address in ["127.0.0.1:0", &name] {
        let mut reactor = Reactor::new().unwrap();
        let options = ListenOptions::default();
        let sockets = ListeningSocket::bind_all(&[address.parse().unwrap()], &options).unwrap();
        let listener = listen(&mut reactor, sockets, &options, |_, _, _, _| Ok(())).unwrap();
        let socket = &reactor.get(listener).unwrap().sockets[0].socket;
        rustix::net::shutdown(socket, rustix::net::Shutdown::Both).unwrap();
        let stopped = Rc::new(Cell::new(false));
        let noted = stopped.clone();
        listener.on_stopped(&mut reactor, move |_| noted.set(true)).unwrap();
        assert!(reactor.run_until(Duration::from_secs(20), |_| stopped.get()).unwrap(), "{address}");
        assert_eq!(listener.addresses(&reactor), Ok(Vec::new()));
    }
}
