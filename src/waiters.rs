//! The sources that wait for something that each of them takes: an item or a place of a mailbox, or
//! the room of an output.
//!
//! Invariant: sources that wait are woken in the order in which they came. One item or place is
//! reserved for each woken source, until it takes that or leaves, but no longer than until the end
//! of the next turn. Any source may take the rest. So a source that takes everything, or that comes
//! between a wake-up and its call, cannot starve the others.
//!
//! Read next: `stdio/output.rs`, which has waiters, too.

use std::collections::{HashSet, VecDeque};

use crate::reactor::{Id, Reactor};

/// Sources that wait for items or places, and the reservations of those that were woken.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    queue: VecDeque<Id>,
    /// The same ids, to find one quickly.
    members: HashSet<Id>,
    /// The sources that were woken last, in that order.
    woken: VecDeque<Id>,
    /// Those of them that have not taken theirs.
    reserved: HashSet<Id>,
    /// The turn in which they were woken.
    woken_in: u64,
}

impl Waiters {
    /// Adds a source that was not admitted.
    pub fn add(&mut self, waiter: Id, reactor: &Reactor) {
        if !self.members.insert(waiter) {
            return;
        }
        if self.queue.len() == self.queue.capacity() {
            // Forget the sources that have left.
            self.queue.retain(|&id| reactor.contains(id));
            self.members.retain(|&id| id == waiter || reactor.contains(id));
            if self.queue.len() > self.queue.capacity() / 2 {
                self.queue.reserve(self.queue.len()); // so it is long until the next search
            }
        }
        self.queue.push_back(waiter);
    }

    /// Returns whether a source may take one of the items or places that are there, `count`: one is
    /// reserved for it, or one is not reserved.
    pub fn admit(&mut self, waiter: Id, count: usize, reactor: &Reactor) -> bool {
        if self.reserved.contains(&waiter) {
            return true;
        }
        self.end_reservations(reactor);
        self.reserved.len() < count
    }

    /// Ends the reservation of a source that has taken an item or a place.
    pub fn took(&mut self, waiter: Id) {
        self.reserved.remove(&waiter);
    }

    /// Ends the reservations whose time is over: a source that is woken in one turn has been called
    /// by the end of the next one. Ends those of sources that have left, too, unless a source that
    /// was woken before them is still to be called.
    fn end_reservations(&mut self, reactor: &Reactor) {
        let is_over = reactor.turn_count() > self.woken_in + 1;
        while let Some(first) = self.woken.front()
            && (is_over || !self.reserved.contains(first) || !reactor.contains(*first))
        {
            self.reserved.remove(first);
            self.woken.pop_front();
        }
    }

    /// Wakes the first waiters, at most `count`, unless something is reserved for others. Returns
    /// whether a source waits although something is there. Then the caller queues a call of itself,
    /// and calls this again in it.
    pub fn wake(&mut self, count: usize, reactor: &mut Reactor) -> bool {
        self.end_reservations(reactor);
        if self.woken.is_empty() {
            self.woken_in = reactor.turn_count();
            while self.woken.len() < count
                && let Some(id) = self.queue.pop_front()
            {
                self.members.remove(&id);
                if reactor.wake(id) {
                    self.woken.push_back(id);
                    self.reserved.insert(id);
                }
            }
        }
        count > 0 && !self.queue.is_empty()
    }

    pub fn wake_all(&mut self, reactor: &mut Reactor) {
        self.members.clear();
        self.woken.clear();
        self.reserved.clear();
        for id in self.queue.drain(..) {
            reactor.wake(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mailbox;

    #[test]
    fn source_that_is_added_again_keeps_its_one_place() {
        let mut reactor = Reactor::new().unwrap();
        let ids: Vec<Id> = (0..100).map(|_| Mailbox::<u8>::new(&mut reactor, 1).id()).collect();
        let mut waiters = Waiters::default();
        for &id in ids.iter().chain(&ids) {
            waiters.add(id, &reactor);
        }
        assert_eq!(waiters.queue, ids);
    }

    #[test]
    fn removed_waiters_are_forgotten() {
        let mut reactor = Reactor::new().unwrap();
        let mut waiters = Waiters::default();
        for _ in 0..1000 {
            let waiter = Mailbox::<u8>::new(&mut reactor, 1).id();
            waiters.add(waiter, &reactor);
            reactor.remove(waiter);
        }
        assert!(waiters.queue.len() < 10 && waiters.members.len() < 10, "{waiters:?}");
    }
}
