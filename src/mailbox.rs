//! A bounded queue between sources (asyncio: `asyncio.Queue`).
//!
//! Invariant: `try_send` never fills a mailbox beyond its capacity. (Only an item whose receiver is
//! gone is put back even if the mailbox is full.) A source that finds the mailbox full is woken
//! when there is room. A source that finds it empty is woken when there is an item. This is how
//! backpressure from a slow network reaches stdin. Sources need not register for that: a `try_send`
//! or `try_recv` without success is enough.
//!
//! The mailbox itself is called in each turn in which a source waits although something is there.
//!
//! ```text
//!   sender ── try_send ──▶ ┌───┬───┬───┬───┐ ── try_recv ──▶ receiver
//!     ▲                    └───┴───┴───┴───┘                    ▲
//!     └─── woken when there is room       woken when there is ──┘
//!                                                an item
//! ```
//!
//! Read next: `waiters.rs`, which source is woken for an item; `stdio/input.rs`, which sends to
//! one.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;

use crate::reactor::{Handle, Id, Next, Reactor, Ready, Source, Unavailable};
use crate::transport::Flow;
use crate::waiters::Waiters;

/// A bounded queue, which is a source without a descriptor. It is used through its [`Handle`].
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
    /// Each item has its number, so that an item that is put back returns to its place.
    items: VecDeque<(u64, T)>,
    /// How many items were ever sent.
    sent: u64,
    capacity: usize,
    closed: bool,
    /// The sources that found the mailbox full.
    senders: Waiters,
    /// The sources that found the mailbox empty.
    receivers: Waiters,
    /// The sources to wake when the mailbox is closed, such as one that reads for it.
    until_closed: Waiters,
}

/// The result of [`try_recv`](Handle::try_recv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecv<T> {
    /// The oldest item.
    Item(T),
    /// There is no item yet, or others wait for it. The waiter will be woken.
    Empty,
    /// The mailbox is closed and empty, or it is gone.
    Closed,
}

impl<T> TryRecv<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> TryRecv<U> {
        match self {
            TryRecv::Item(item) => TryRecv::Item(f(item)),
            TryRecv::Empty => TryRecv::Empty,
            TryRecv::Closed => TryRecv::Closed,
        }
    }
}

/// Why [`try_send`](Handle::try_send) returned the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or others wait for it. The waiter will be woken.
    Full(T),
    /// The mailbox is closed or gone, so the item would never be received.
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
    /// Creates an empty mailbox for at most `capacity` items. A capacity of 0 counts as 1.
    #[allow(clippy::new_ret_no_self)] // it lives in the reactor
    pub fn new(reactor: &mut Reactor, capacity: usize) -> Handle<Self> {
        reactor.insert(Mailbox {
            items: VecDeque::new(),
            sent: 0,
            capacity: capacity.max(1),
            closed: false,
            senders: Waiters::default(),
            receivers: Waiters::default(),
            until_closed: Waiters::default(),
        })
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.items.len())
    }

    fn push(&mut self, item: T) {
        self.items.push_back((self.sent, item));
        self.sent += 1;
    }

    /// Wakes the first senders, if there is room. Returns whether others wait for it.
    fn wake_senders(&mut self, reactor: &mut Reactor) -> bool {
        self.senders.wake(self.room(), reactor)
    }

    /// Wakes the first receivers, if there are items. Returns whether others wait for them.
    fn wake_receivers(&mut self, reactor: &mut Reactor) -> bool {
        self.receivers.wake(self.items.len(), reactor)
    }

    fn wake_all(&mut self, reactor: &mut Reactor) {
        self.senders.wake_all(reactor);
        self.receivers.wake_all(reactor);
        self.until_closed.wake_all(reactor);
    }
}

impl<T: 'static> Handle<Mailbox<T>> {
    /// Sends an item. If there is no room, or if other sources wait for it, `waiter` is woken when
    /// it is its turn.
    ///
    /// # Errors
    /// Returns the item, and the reason.
    pub fn try_send(self, reactor: &mut Reactor, waiter: Id, item: T) -> Result<(), TrySendError<T>> {
        match (self.flow(reactor, waiter), reactor.get_mut(self)) {
            (Flow::Open, Ok(mailbox)) => {
                mailbox.push(item);
                mailbox.senders.took(waiter);
            }
            (Flow::Full, _) => return Err(TrySendError::Full(item)),
            _ => return Err(TrySendError::Closed(item)),
        }
        self.wake(reactor, Mailbox::wake_receivers);
        Ok(())
    }

    /// Returns what [`try_send`](Self::try_send) can expect now. At [`Flow::Full`], `waiter` is
    /// woken when there is room for it; at [`Flow::Closed`], an item would never be received.
    pub fn flow(self, reactor: &mut Reactor, waiter: Id) -> Flow {
        let flow = reactor.with(self, |mailbox, reactor| {
            if mailbox.closed {
                return Flow::Closed;
            }
            let room = mailbox.room();
            if room > 0 && mailbox.senders.admit(waiter, room, reactor) {
                return Flow::Open;
            }
            mailbox.senders.add(waiter, reactor);
            Flow::Full
        });
        match flow {
            Ok(Flow::Full) => self.wake(reactor, Mailbox::wake_senders), // it may wait for others
            Err(Unavailable::Running) => {
                reactor.wake(waiter); // to try again
                return Flow::Full;
            }
            _ => {}
        }
        flow.unwrap_or(Flow::Closed)
    }

    /// Receives the oldest item. If there is none yet, or if other sources wait for it, `waiter` is
    /// woken when it is its turn.
    pub fn try_recv(self, reactor: &mut Reactor, waiter: Id) -> TryRecv<T> {
        self.try_recv_numbered(reactor, waiter).map(|(_, item)| item)
    }

    /// Does the same as [`try_recv`](Self::try_recv), and returns the number of the item for
    /// [`put_back`](Self::put_back).
    pub(crate) fn try_recv_numbered(self, reactor: &mut Reactor, waiter: Id) -> TryRecv<(u64, T)> {
        let received = reactor.with(self, |mailbox, reactor| {
            let count = mailbox.items.len();
            if mailbox.closed || count > 0 && mailbox.receivers.admit(waiter, count, reactor) {
                mailbox.receivers.took(waiter);
                return mailbox.items.pop_front().map_or(TryRecv::Closed, TryRecv::Item);
            }
            mailbox.receivers.add(waiter, reactor);
            TryRecv::Empty
        });
        match received {
            Ok(TryRecv::Item(_)) => self.wake(reactor, Mailbox::wake_senders),
            Ok(TryRecv::Empty) => self.wake(reactor, Mailbox::wake_receivers), // it may wait for others
            Err(Unavailable::Running) => {
                reactor.wake(waiter); // to try again
                return TryRecv::Empty;
            }
            _ => {}
        }
        received.unwrap_or(TryRecv::Closed)
    }

    /// Returns whether there is no item.
    #[cfg(feature = "cli")]
    pub(crate) fn is_empty(self, reactor: &Reactor) -> bool {
        reactor.get(self).map_or(true, |mailbox| mailbox.items.is_empty())
    }

    /// Closes the mailbox, so that nothing more can be sent. Items in it can still be received.
    pub fn close(self, reactor: &mut Reactor) {
        let closed = reactor.with(self, |mailbox, reactor| {
            mailbox.closed = true;
            mailbox.wake_all(reactor);
        });
        if closed == Err(Unavailable::Running) {
            reactor.call_soon(move |reactor| self.close(reactor));
        }
    }

    /// Wakes `waiter` when the mailbox is closed or removed. This is for a source that found room
    /// and waits for something else.
    pub(crate) fn wake_when_closed(self, reactor: &mut Reactor, waiter: Id) {
        let _ = reactor.with(self, |mailbox, reactor| mailbox.until_closed.add(waiter, reactor));
    }

    /// Puts an item back whose receiver is gone. It returns to its former place, even if the
    /// mailbox is full.
    pub(crate) fn put_back(self, reactor: &mut Reactor, item: (u64, T)) {
        if let Ok(mailbox) = reactor.get_mut(self) {
            let place = mailbox.items.partition_point(|(number, _)| *number < item.0);
            mailbox.items.insert(place, item);
            self.wake(reactor, Mailbox::wake_receivers);
        }
    }

    /// Wakes the first waiters. If others wait for the rest, the mailbox is called after them.
    fn wake(self, reactor: &mut Reactor, wake: fn(&mut Mailbox<T>, &mut Reactor) -> bool) {
        if reactor.with(self, wake) == Ok(true) {
            reactor.call_again(self.id());
        }
    }
}

impl<T: 'static> Source for Mailbox<T> {
    /// Called while sources wait for what is there.
    fn ready(&mut self, _: Id, _: Ready, reactor: &mut Reactor) -> Next {
        let senders_wait = self.wake_senders(reactor);
        if self.wake_receivers(reactor) || senders_wait { Next::Again } else { Next::Wait }
    }

    /// Wakes all waiting sources, which then find the mailbox closed.
    fn removed(&mut self, _: Id, reactor: &mut Reactor) {
        self.wake_all(reactor);
    }
}

crate::opaque_debug!(Mailbox<T>, T);
