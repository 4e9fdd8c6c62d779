//! A bounded queue between sources (asyncio: `asyncio.Queue`).
//!
//! Invariant: it never holds more than its capacity. Whoever finds it full is woken when there is
//! room, and whoever finds it empty is woken when there is something: that is how the pause of a slow
//! network travels back to stdin. Nobody has to be introduced to it: asking is enough.
//!
//! ```text
//!   writer ── put ──▶ ┌───┬───┬───┬───┐ ── take ──▶ reader
//!     ▲               └───┴───┴───┴───┘                ▲
//!     └─── woken when there is room      woken when ───┘
//!                                        something came
//! ```
//!
//! Read next: `stdio/input.rs`, which writes to one.

use std::collections::VecDeque;

use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source};

/// The queue: a source without a descriptor. It is used through its [`Handle`].
///
/// ```
/// use echo_reactor::{Mailbox, Reactor, Taken};
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let mailbox = Mailbox::new(&mut reactor, 1);
/// let nobody = mailbox.id(); // in a program: the id of the source that asks
/// assert_eq!(mailbox.put(&mut reactor, nobody, "first"), Ok(()));
/// assert!(mailbox.put(&mut reactor, nobody, "second").is_err()); // full
/// mailbox.close(&mut reactor);
/// assert_eq!(mailbox.take(&mut reactor, nobody), Taken::Item("first"));
/// assert_eq!(mailbox.take(&mut reactor, nobody), Taken::Closed);
/// # Ok(())
/// # }
/// ```
pub struct Mailbox<T> {
    items: VecDeque<T>,
    capacity: usize,
    closed: bool,
    /// Those who found it empty, or full: only one of the two kinds can be waiting.
    waiting: Vec<Id>,
}

/// What [`take`](Handle::take) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// The oldest item.
    Item(T),
    /// Nothing yet: you will be woken.
    Empty,
    /// Nothing any more.
    Closed,
}

/// Why [`put`](Handle::put) gave the item back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room: you will be woken.
    Full(T),
    /// Closed, or gone: nobody will ever take it.
    Closed(T),
}

/// What [`room`](Handle::room) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The next [`put`](Handle::put) will be taken.
    Free,
    /// No room: you will be woken.
    Full,
    /// Closed, or gone.
    Closed,
}

impl<T: 'static> Mailbox<T> {
    /// An empty mailbox for at most `capacity` items (one at least).
    #[allow(clippy::new_ret_no_self)] // it lives in the reactor, its handle is what one has
    pub fn new(reactor: &mut Reactor, capacity: usize) -> Handle<Self> {
        reactor.insert(Mailbox {
            items: VecDeque::new(),
            capacity: capacity.max(1),
            closed: false,
            waiting: Vec::new(),
        })
    }

    fn wait(&mut self, who: Id) {
        if !self.waiting.contains(&who) {
            self.waiting.push(who);
        }
    }
}

impl<T: 'static> Handle<Mailbox<T>> {
    /// Puts an item in. `by` is woken when there is room, if there is none now.
    ///
    /// # Errors
    /// Gives the item back, and says why.
    pub fn put(self, reactor: &mut Reactor, by: Id, item: T) -> Result<(), Refused<T>> {
        match self.room(reactor, by) {
            Room::Full => return Err(Refused::Full(item)),
            Room::Closed => return Err(Refused::Closed(item)),
            Room::Free => {}
        }
        if let Some(mailbox) = reactor.get_mut(self) {
            mailbox.items.push_back(item);
        }
        self.wake_waiting(reactor);
        Ok(())
    }

    /// Whether an item would be taken now. `by` is woken when there is room, if there is none.
    pub fn room(self, reactor: &mut Reactor, by: Id) -> Room {
        match reactor.get_mut(self) {
            Some(mailbox) if mailbox.closed => Room::Closed,
            Some(mailbox) if mailbox.items.len() >= mailbox.capacity => {
                mailbox.wait(by);
                Room::Full
            }
            Some(_) => Room::Free,
            None => Room::Closed,
        }
    }

    /// Takes the oldest item. `by` is woken when something comes, if there is nothing now.
    pub fn take(self, reactor: &mut Reactor, by: Id) -> Taken<T> {
        let Some(mailbox) = reactor.get_mut(self) else { return Taken::Closed };
        let Some(item) = mailbox.items.pop_front() else {
            if mailbox.closed {
                return Taken::Closed;
            }
            mailbox.wait(by);
            return Taken::Empty;
        };
        self.wake_waiting(reactor);
        Taken::Item(item)
    }

    /// Says that nothing more will be put in. What is in there can still be taken.
    pub fn close(self, reactor: &mut Reactor) {
        if let Some(mailbox) = reactor.get_mut(self) {
            mailbox.closed = true;
        }
        self.wake_waiting(reactor);
    }

    fn wake_waiting(self, reactor: &mut Reactor) {
        let waiting = reactor.get_mut(self).map(|mailbox| std::mem::take(&mut mailbox.waiting));
        for id in waiting.unwrap_or_default() {
            reactor.wake(id);
        }
    }
}

impl<T: 'static> Source for Mailbox<T> {
    /// A mailbox has nothing to do: those who use it are woken, not it.
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }
}
