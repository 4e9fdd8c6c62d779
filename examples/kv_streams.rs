//! The same key-value server, on streams: `set KEY VALUE`, `get KEY`, `del KEY`, a line each.
//!
//! Look at how little is left: a loop over lines, each with its timeout. A store that is borrowed briefly,
//! and never across an `await`, may be an `Rc<RefCell>`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use echo_reactor::cli::address_argument;
use echo_reactor::{ListenOptions, Reactor, Reader, Winner, Writer, race, start_server};

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

async fn serve(mut reader: Reader, mut writer: Writer, store: Store) -> io::Result<()> {
    let clock = reader.running_loop();
    loop {
        let line = match race(reader.read_line(LONGEST_LINE), clock.sleep(TIMEOUT)).await {
            Winner::First(Ok(Some(line))) => line,
            Winner::First(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return writer.write_all(b"error: the line is too long\n").await;
            }
            Winner::First(Ok(None)) | Winner::Second(()) => return Ok(()),
            Winner::First(Err(error)) => return Err(error),
        };
        let answer = answer(&store, String::from_utf8_lossy(&line).trim_end());
        writer.write_all(answer.as_bytes()).await?;
    }
}

fn main() -> io::Result<()> {
    let addresses = address_argument()?.to_listen()?;
    let mut reactor = Reactor::new()?;
    let store = Store::default();
    let guest = move |reader, writer| serve(reader, writer, store.clone());
    let listener = start_server(&mut reactor, &addresses, &ListenOptions::default(), guest)?;
    println!("listening on {}", listener.addresses(&reactor)?[0]);
    reactor.run()
}
