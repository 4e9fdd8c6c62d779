//! A key-value server, on callbacks: `set KEY VALUE`, `get KEY`, `del KEY`, a line each.
//!
//! Look at `answer`: it stops when the peer reads its answers too slowly, and `resume_writing` goes on. The
//! rest of the requests stays in `lines`, because a callback cannot wait.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc, time::Duration};

use echo_reactor::cli::address_argument;
use echo_reactor::{Flow, LineBuffer, ListenOptions, Protocol, Reactor, Transport, create_server};

const LONGEST_LINE: usize = 4096;
const MAX_KEYS: usize = 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

type Store = Rc<RefCell<HashMap<String, String>>>;

fn answer(store: &Store, line: &str) -> String {
    let mut store = store.borrow_mut();
    match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
        ["set", key, _] if store.len() == MAX_KEYS && !store.contains_key(key) => "full\n".into(),
        ["set", key, value] => {
            store.insert(key.into(), value.into());
            "ok\n".into()
        }
        ["get", key] => store.get(key).map_or("none\n".into(), |value| format!("{value}\n")),
        ["del", key] => if store.remove(key).is_some() { "ok\n" } else { "none\n" }.into(),
        _ => "error: set KEY VALUE, get KEY, del KEY\n".into(),
    }
}

struct Guest {
    store: Store,
    lines: LineBuffer,
}

impl Guest {
    /// Answers as many lines as the peer reads answers.
    fn answer(&mut self, transport: &mut Transport) {
        while transport.flow() != Flow::Full {
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    let answer = answer(&self.store, String::from_utf8_lossy(&line).trim_end());
                    transport.write(answer.as_bytes());
                }
                Ok(None) => return transport.resume_reading(),
                Err(_) => {
                    transport.write(b"error: the line is too long\n");
                    return transport.close();
                }
            }
        }
    }
}

impl Protocol for Guest {
    fn connection_made(&mut self, transport: &mut Transport) {
        transport.set_idle_timeout(Some(TIMEOUT));
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.lines.push(data);
        self.answer(transport);
    }
    fn resume_writing(&mut self, transport: &mut Transport) {
        self.answer(transport);
    }
}

fn main() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    let store = Store::default();
    let guest = move || Guest { store: store.clone(), lines: LineBuffer::new(LONGEST_LINE) };
    let addresses = address_argument()?.to_listen()?;
    let listener = create_server(&mut reactor, &addresses, &ListenOptions::default(), guest)?;
    println!("listening on {}", listener.addresses(&reactor)?[0]);
    reactor.run()
}
