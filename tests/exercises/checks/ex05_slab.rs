//! A loop that inserts entries into a table, runs them, and removes them.

use crate::judge::{Verdict, doing, ensure};

/// The address of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    pub index: usize,
    pub generation: usize,
}

/// A table of entries. An entry is a name here, and would be a connection.
pub trait Slab {
    /// Puts an entry into a free slot, or into a new one.
    fn insert(&mut self, entry: &str) -> Token;
    /// Takes the entry out of its slot, so that it can run. Its slot is not free meanwhile.
    fn take_out(&mut self, token: Token) -> Option<String>;
    /// Puts an entry back that was taken out, unless it was removed meanwhile.
    fn put_back(&mut self, token: Token, entry: String);
    /// Removes an entry, also while it runs.
    fn remove(&mut self, token: Token);
}

pub fn check<S: Slab>(new: fn() -> S) -> Verdict {
    doing("in a method of the table");
    let mut table = new();
    let [ann, bob] = ["ann", "bob"].map(|name| table.insert(name));
    ensure!(ann != bob, "two entries got the same token");
    let dan = table.insert("dan");
    table.remove(dan);
    let joe = table.insert("joe");
    ensure!(joe != dan, "`dan` has gone, and `joe` got the same token. The slot has to get a new generation");
    for hint in [
        "",
        ". She was put back, and her token has to work until she is removed: only `remove` raises the generation",
    ] {
        let entry = table.take_out(ann);
        ensure!(entry.as_deref() == Some("ann"), "`take_out` of `ann` returned {entry:?}{hint}");
        let again = table.take_out(ann);
        ensure!(again.is_none(), "`ann` runs, and `take_out` found {again:?} in its slot");
        table.put_back(ann, entry.unwrap());
    }

    // It is removed, perhaps twice. Its slot is used again, once.
    table.remove(bob);
    table.remove(bob);
    let [eve, fay] = ["eve", "fay"].map(|name| table.insert(name));
    ensure!(eve.index == bob.index, "the slot of an entry that was removed is not used again");
    ensure!(
        fay.index != eve.index,
        "an entry was removed twice, and then two entries got its one slot. The second removal had a stale \
         token. A token is stale as soon as its entry has gone, and `remove` ignores it"
    );
    let found = table.take_out(bob);
    ensure!(found.is_none(), "the token of `bob`, who has gone, found {found:?} in the same slot");
    table.remove(bob);
    let found = table.take_out(eve);
    ensure!(found.as_deref() == Some("eve"), "the stale token of `bob` removed `eve` from the slot");
    table.put_back(eve, "eve".to_owned());

    // An entry that runs is not there, but its slot is not free.
    let entry = table.take_out(ann).unwrap();
    let guest = table.insert("guest");
    ensure!(guest.index != ann.index, "`ann` runs, and its slot was given to another entry");

    // It is removed while it runs, and its slot is used again before it returns.
    table.remove(ann);
    let heir = table.insert("heir");
    table.put_back(ann, entry);
    let found = table.take_out(ann);
    ensure!(found.is_none(), "`ann` was removed while it ran, and after `put_back` it is there again");
    ensure!(heir.index == ann.index, "`ann` was removed while it ran, and its slot is not used again");
    let found = table.take_out(heir);
    ensure!(
        found.as_deref() == Some("heir"),
        "`ann` was removed while it ran, and `heir` got its slot. After `put_back` of `ann`, the token of \
         `heir` finds {found:?}"
    );
    Ok(())
}
