//! One line of statistics since the start, in plain integers: for SIGUSR1 and for `stats` on the
//! console.

use echo_reactor::{Connection, Handle, Listener, Reactor};

use crate::echo::Echo;

pub fn statistics(reactor: &mut Reactor, listener: Handle<Listener>) -> String {
    let Ok(mut stats) = listener.stats(reactor) else { return "there is no listener".into() };
    // The listener counts the bytes of closed connections. Add those of the open ones.
    let mut buffered = 0;
    for connection in reactor.handles::<Connection<Echo>>() {
        let _ = connection.enter(reactor, |_, transport| {
            stats.bytes_in += transport.bytes_in();
            stats.bytes_out += transport.bytes_out();
            buffered += transport.buffered();
        });
    }
    format!(
        "connections: {} open{}, {} accepted, {} refused; bytes: {} in, {} out, {buffered} buffered; turns: {}",
        stats.open,
        if stats.is_full { " (the limit)" } else { "" },
        stats.accepted,
        stats.refused,
        stats.bytes_in,
        stats.bytes_out,
        reactor.turn_count(),
    )
}
