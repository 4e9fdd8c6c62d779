//! What the two key-value servers have in common: the commands `set KEY VALUE`, `get KEY` and `del KEY`.
//!
//! Memory is bounded: by the number of keys, and by the longest line for each of them.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// The longest request in bytes.
pub const LONGEST_LINE: usize = 4096;

const MAX_KEYS: usize = 1024;

/// The pairs, shared by all connections. It is borrowed only while one request is answered.
pub type Store = Rc<RefCell<HashMap<String, String>>>;

/// Returns the answer to one request.
pub fn answer(store: &Store, line: &[u8]) -> String {
    let mut store = store.borrow_mut();
    match String::from_utf8_lossy(line).trim_end().splitn(3, ' ').collect::<Vec<_>>()[..] {
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
