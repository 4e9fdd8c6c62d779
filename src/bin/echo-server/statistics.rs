//! One line of plain integers about everything so far: SIGUSR1, and `stats` on the console.

use echo_reactor::{Connection, Handle, Listener, Reactor};

use crate::echo::Echo;

pub fn statistics(reactor: &mut Reactor, listener: Handle<Listener>) -> String {
    // The listener knows of connections that are closed; the others know of themselves.
    let mut totals = Listener::totals(reactor, listener);
    let mut buffered = 0;
    for connection in reactor.all::<Connection<Echo>>() {
        Connection::enter(reactor, connection, |_, transport| {
            totals.bytes_in += transport.bytes_in();
            totals.bytes_out += transport.bytes_out();
            buffered += transport.buffered();
        });
    }
    format!(
        "connections: {} open, {} accepted, {} refused; bytes: {} in, {} out, {buffered} buffered; turns: {}",
        totals.open,
        totals.accepted,
        totals.refused,
        totals.bytes_in,
        totals.bytes_out,
        reactor.turns(),
    )
}
