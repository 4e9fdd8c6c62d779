//! A key-value server, on callbacks: `set KEY VALUE`, `get KEY`, `del KEY`, a line each.
//!
//! Look at `line`: what has come of a line is kept in a field, because the next piece is another call. The store
//! is a source without a descriptor, which every connection finds through its handle.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use echo_reactor::cli::address_argument;
use echo_reactor::{
    Handle, Id, Listener, Next, Protocol, Reactor, Ready, Serve, Source, Transport, create_server,
};

const LONGEST_LINE: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Store(HashMap<String, String>);

impl Source for Store {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait // nobody wakes it: it is only looked at
    }
}

impl Store {
    fn answer(&mut self, line: &str) -> String {
        match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => {
                self.0.insert(key.into(), value.into());
                "ok\n".into()
            }
            ["get", key] => self.0.get(key).map_or("none\n".into(), |value| format!("{value}\n")),
            ["del", key] => if self.0.remove(key).is_some() { "ok\n" } else { "none\n" }.into(),
            _ => "error: set KEY VALUE, get KEY, del KEY\n".into(),
        }
    }
}

struct Guest {
    store: Handle<Store>,
    line: Vec<u8>,
}

impl Protocol for Guest {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(TIMEOUT));
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > LONGEST_LINE {
                transport.write(b"error: the line is too long\n");
                return transport.close();
            }
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
                let answer = transport.reactor().get_mut(self.store).map(|store| store.answer(&line));
                transport.write(answer.unwrap_or_default().as_bytes());
                self.line.clear();
            }
        }
    }
}

fn main() -> io::Result<()> {
    let addresses = address_argument()?.to_listen()?;
    let mut reactor = Reactor::new()?;
    let store = reactor.insert(Store::default());
    let guest = move || Guest { store, line: Vec::new() };
    let listener = create_server(&mut reactor, &addresses, &Serve::default(), guest)?;
    println!("listening on {}", Listener::addresses(&mut reactor, listener)[0]);
    reactor.run()
}
