//! The store of the two key-value servers: `set KEY VALUE`, `get KEY` and `del KEY`.
//!
//! Invariant: the memory is bounded by [`MAX_KEYS`] and [`MAX_LINE_LENGTH`].

use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// The maximum length of a request in bytes.
pub const MAX_LINE_LENGTH: usize = 4096;

const MAX_KEYS: usize = 1024;

/// The keys and values, which all connections share. The map is borrowed only while a request is
/// answered.
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
