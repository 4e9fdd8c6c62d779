//! What mailboxes and their waiters must do.

use std::collections::VecDeque;

use echo_reactor::{Handle, Id, Mailbox, TryRecv, TrySendError};

/// What a worker waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Items(usize),
    Room(usize),
    Chunks(usize),
    Output(usize),
}

pub struct Worker {
    pub id: Id,
    pub is_gone: bool,
    /// Each wait with its ticket: the tickets of one list are in the order in which they came.
    waits: Vec<(List, usize)>,
    is_poked: bool,
    /// Whether it may be woken again for a wait that another wake-up has ended.
    may_be_poked: bool,
}

#[derive(Default)]
pub struct Workers {
    pub all: Vec<Worker>,
    tickets: usize,
    /// The lists whose waiters may be woken in another order.
    unordered: Vec<List>,
    /// The lists with a first waiter. From then on, a worker may be refused for others.
    waited: Vec<List>,
}

impl Workers {
    pub fn add(&mut self, id: Id) {
        let (waits, is_gone, is_poked, may_be_poked) = (Vec::new(), false, false, false);
        self.all.push(Worker { id, is_gone, waits, is_poked, may_be_poked });
    }

    pub fn wait(&mut self, number: usize, list: List) {
        self.tickets += 1;
        self.waited.push(list);
        let waits = &mut self.all[number].waits;
        if waits.iter().all(|(other, _)| *other != list) {
            waits.push((list, self.tickets));
        }
    }

    /// Records whether a command wakes a worker.
    pub fn poke(&mut self, number: usize, is_woken: bool) {
        self.all[number].is_poked |= is_woken;
    }

    /// Records that a command may wake a worker at any time.
    pub fn poke_later(&mut self, number: usize) {
        self.all[number].may_be_poked = true;
    }

    /// Records that all who wait are woken, so those that are queued already are called first.
    pub fn wake_all(&mut self, list: List) {
        self.unordered.push(list);
    }

    /// Records the call of a woken worker. It must be the first that waits. Several may be woken
    /// together; then the others are in the queue.
    pub fn woken(&mut self, number: usize, queue: &[Option<Id>]) {
        let worker = &mut self.all[number];
        let waits = std::mem::take(&mut worker.waits);
        let is_poked = std::mem::take(&mut worker.is_poked) || worker.may_be_poked;
        assert!(is_poked || !waits.is_empty(), "worker {number} was woken without a reason");
        if is_poked || waits.len() > 1 {
            worker.may_be_poked |= !waits.is_empty();
            self.unordered.extend(waits.iter().map(|(list, _)| list));
        } else if !self.unordered.contains(&waits[0].0) {
            let (list, ticket) = waits[0];
            let is_before = |&(other, before): &(List, usize)| other == list && before < ticket;
            let is_passed_over = |worker: &&Worker| {
                !worker.is_gone && !queue.contains(&Some(worker.id)) && worker.waits.iter().any(is_before)
            };
            let passed_over = self.all.iter().find(is_passed_over).map(|worker| worker.id);
            assert_eq!(passed_over, None, "worker {number} was woken before it, {list:?}");
        }
    }

    pub fn is_any_waiting(&self, list: List) -> bool {
        let mut living = self.all.iter().filter(|worker| !worker.is_gone);
        living.any(|worker| worker.waits.iter().any(|(other, _)| *other == list))
    }

    pub fn has_waited(&self, list: List) -> bool {
        self.waited.contains(&list)
    }

    pub fn is_any_poked(&self) -> bool {
        self.all.iter().any(|worker| worker.is_poked && !worker.is_gone)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Open,
    Closed,
    Removed,
}

/// A mailbox of numbers.
pub struct Queue {
    pub handle: Handle<Mailbox<u32>>,
    pub capacity: usize,
    pub items: VecDeque<u32>,
    /// The next item.
    pub next: u32,
    pub state: State,
    /// Whether the commands come from inside `Reactor::with` on it.
    pub is_running: bool,
    /// Whether tasks receive from it, too. A task may have taken an item that it has not reported.
    pub has_tasks: bool,
}

impl Queue {
    pub fn close(&mut self) {
        self.state = self.state.max(State::Closed);
    }

    /// Compares the result of `try_send` of the next item. Returns whether its caller waits.
    pub fn sent(&mut self, result: Result<(), TrySendError<u32>>, others_waited: bool) -> bool {
        let is_full = self.has_tasks || others_waited || self.items.len() >= self.capacity;
        match result {
            Ok(()) => {
                assert!(self.state == State::Open && !self.is_running);
                assert!(self.has_tasks || self.items.len() < self.capacity, "a mailbox beyond its capacity");
                self.items.push_back(self.next);
                self.next += 1;
            }
            Err(TrySendError::Full(item)) => {
                assert_eq!(item, self.next);
                assert!(
                    self.state != State::Removed && self.is_running || self.state == State::Open && is_full
                );
                return !self.is_running;
            }
            Err(TrySendError::Closed(item)) => {
                assert_eq!(item, self.next);
                assert!(self.state == State::Removed || self.state == State::Closed && !self.is_running);
            }
        }
        false
    }

    /// Compares the result of `try_recv`. Returns whether its caller waits.
    pub fn received(&mut self, result: TryRecv<u32>, others_waited: bool) -> bool {
        let is_empty = self.has_tasks || self.items.is_empty();
        match result {
            TryRecv::Item(item) => {
                let place = self.items.iter().position(|other| *other == item);
                assert!(place == Some(0) || place.is_some() && self.has_tasks, "{item} of {:?}", self.items);
                self.items.retain(|other| *other != item);
            }
            TryRecv::Empty => {
                assert!(
                    self.state != State::Removed && self.is_running
                        || self.state == State::Open && (is_empty || others_waited)
                );
                return !self.is_running;
            }
            TryRecv::Closed => {
                assert!(self.state == State::Removed || self.state == State::Closed && is_empty);
            }
        }
        false
    }
}
