//! A bounded queue between sources (asyncio: `asyncio.Queue`).
//!
//! Invariant: it never holds more than its capacity. A source that finds it full is woken when there is
//! room, and one that finds it empty is woken when there is an item. This is how backpressure from a
//! slow network reaches stdin. There is no registration: calling `try_send` or `try_recv` is enough to
//! be woken.
//!
//! ```text
//!   sender ── try_send ──▶ ┌───┬───┬───┬───┐ ── try_recv ──▶ receiver
//!     ▲                    └───┴───┴───┴───┘                    ▲
//!     └─── woken when there is room       woken when there is ──┘
//!                                                an item
//! ```
//!
//! Read next: `stdio/input.rs`, which sends to one.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;

use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Unavailable};
use crate::transport::Flow;

/// The queue: a source without a descriptor. It is used through its [`Handle`].
///
/// ```
/// use echo_reactor::{Mailbox, Reactor, TryRecv};
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// let mailbox = Mailbox::new(&mut reactor, 1);
/// let waiter = mailbox.id(); // in a program: the id of the source that calls
/// assert_eq!(mailbox.try_send(&mut reactor, waiter, "first"), Ok(()));
/// assert!(mailbox.try_send(&mut reactor, waiter, "second").is_err()); // full
/// mailbox.close(&mut reactor);
/// assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Item("first"));
/// assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Closed);
/// # Ok(())
/// # }
/// ```
pub struct Mailbox<T> {
    items: VecDeque<T>,
    capacity: usize,
    closed: bool,
    /// The sources that found it full, or empty: only one of the two kinds can be waiting.
    waiting: Waiters,
    /// The sources that are to know that it is closed, such as one that reads for it.
    until_closed: Waiters,
}

/// What [`try_recv`](Handle::try_recv) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecv<T> {
    /// The oldest item.
    Item(T),
    /// Nothing yet: the waiter will be woken.
    Empty,
    /// Nothing any more.
    Closed,
}

/// Why [`try_send`](Handle::try_send) returned the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room: the waiter will be woken.
    Full(T),
    /// It is closed, or gone: nobody will ever receive the item.
    Closed(T),
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "the mailbox is full",
            TrySendError::Closed(_) => "the mailbox is closed",
        })
    }
}

impl<T: fmt::Debug> Error for TrySendError<T> {}

impl<T: 'static> Mailbox<T> {
    /// Creates an empty mailbox for at most `capacity` items, at least one.
    #[allow(clippy::new_ret_no_self)] // it lives in the reactor
    pub fn new(reactor: &mut Reactor, capacity: usize) -> Handle<Self> {
        reactor.insert(Mailbox {
            items: VecDeque::new(),
            capacity: capacity.max(1),
            closed: false,
            waiting: Waiters::default(),
            until_closed: Waiters::default(),
        })
    }

    fn wake_all(&mut self, reactor: &mut Reactor) {
        self.waiting.wake_all(reactor);
        self.until_closed.wake_all(reactor);
    }
}

impl<T: 'static> Handle<Mailbox<T>> {
    /// Sends an item. If there is no room, `waiter` is woken when there is.
    ///
    /// # Errors
    /// Returns the item, and says why.
    pub fn try_send(self, reactor: &mut Reactor, waiter: Id, item: T) -> Result<(), TrySendError<T>> {
        match (self.flow(reactor, waiter), reactor.get_mut(self)) {
            (Flow::Open, Ok(mailbox)) => mailbox.items.push_back(item),
            (Flow::Full, _) => return Err(TrySendError::Full(item)),
            _ => return Err(TrySendError::Closed(item)),
        }
        self.wake_waiting(reactor);
        Ok(())
    }

    /// Returns what [`try_send`](Self::try_send) can expect now. At [`Flow::Full`], `waiter` is woken when
    /// there is room; at [`Flow::Closed`], nobody will ever receive an item.
    pub fn flow(self, reactor: &mut Reactor, waiter: Id) -> Flow {
        match reactor.get_mut(self) {
            Ok(mailbox) if mailbox.closed => return Flow::Closed,
            Ok(mailbox) if mailbox.items.len() < mailbox.capacity => return Flow::Open,
            Ok(_) | Err(Unavailable::Running) => {}
            Err(_) => return Flow::Closed,
        }
        self.wait(reactor, waiter);
        Flow::Full
    }

    /// Receives the oldest item. If there is none yet, `waiter` is woken when one comes.
    pub fn try_recv(self, reactor: &mut Reactor, waiter: Id) -> TryRecv<T> {
        match reactor.get_mut(self).map(|mailbox| (mailbox.items.pop_front(), mailbox.closed)) {
            Ok((Some(item), _)) => {
                self.wake_waiting(reactor);
                TryRecv::Item(item)
            }
            Ok((None, false)) | Err(Unavailable::Running) => {
                self.wait(reactor, waiter);
                TryRecv::Empty
            }
            Ok((None, true)) | Err(_) => TryRecv::Closed,
        }
    }

    /// Closes it: nothing more can be sent. What is in there can still be received.
    pub fn close(self, reactor: &mut Reactor) {
        let closed = reactor.with(self, |mailbox, reactor| {
            mailbox.closed = true;
            mailbox.wake_all(reactor);
        });
        if closed == Err(Unavailable::Running) {
            reactor.call_soon(move |reactor| self.close(reactor));
        }
    }

    /// Wakes `waiter` when it is closed or removed. For a source that found room and waits for something
    /// else.
    pub(crate) fn wake_when_closed(self, reactor: &mut Reactor, waiter: Id) {
        let _ = reactor.with(self, |mailbox, reactor| mailbox.until_closed.add(waiter, reactor));
    }

    /// Returns an item that was received for nobody. It is the oldest again, also where that makes one too
    /// many.
    pub(crate) fn put_back(self, reactor: &mut Reactor, item: T) {
        if let Ok(mailbox) = reactor.get_mut(self) {
            mailbox.items.push_front(item);
            self.wake_waiting(reactor);
        }
    }

    fn wait(self, reactor: &mut Reactor, waiter: Id) {
        if reactor.with(self, |mailbox, reactor| mailbox.waiting.add(waiter, reactor)).is_err() {
            reactor.wake(waiter); // somebody has it by `Reactor::with`, so it tries again
        }
    }

    fn wake_waiting(self, reactor: &mut Reactor) {
        let _ = reactor.with(self, |mailbox, reactor| mailbox.waiting.wake_all(reactor));
    }
}

impl<T: 'static> Source for Mailbox<T> {
    /// A mailbox has nothing to do: the sources that use it are woken, not the mailbox.
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        Next::Wait
    }

    /// To those who wait, a mailbox that is gone is closed.
    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        self.wake_all(reactor);
    }
}

/// Sources that wait for the same thing: first come, first woken, and each once.
#[derive(Default)]
pub(crate) struct Waiters(Vec<Id>);

impl Waiters {
    pub fn add(&mut self, waiter: Id, reactor: &Reactor) {
        if self.0.contains(&waiter) {
            return;
        }
        if self.0.len() == self.0.capacity() {
            self.0.retain(|&id| reactor.contains(id)); // those that have left wait no longer
        }
        self.0.push(waiter);
    }

    pub fn wake_all(&mut self, reactor: &mut Reactor) {
        for id in self.0.drain(..) {
            reactor.wake(id);
        }
    }
}

crate::opaque_debug!(Mailbox<T>, T);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_waiters_are_forgotten() {
        let mut reactor = Reactor::new().unwrap();
        let mut waiters = Waiters::default();
        for _ in 0..1000 {
            let waiter = Mailbox::<u8>::new(&mut reactor, 1).id();
            waiters.add(waiter, &reactor);
            reactor.remove(waiter);
        }
        assert!(waiters.0.len() < 10, "{}", waiters.0.len());
    }
}
