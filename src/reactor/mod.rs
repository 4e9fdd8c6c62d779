//! The reactor: one thread, one poll, one slab of sources.
//!
//! ```text
//!            ┌──────────────────────────── a turn ────────────────────────────┐
//!  kernel ──▶│ 1 how long may I sleep?  not at all if something is queued,    │
//!            │                          else until the next timer, else on    │
//!            │ 2 poll                   the only place that blocks            │
//!            │ 3 events                 each to the source that owns it       │
//!            │ 4 timers                 those that are due                    │
//!            │ 5 the queue              wakes, calls, and who said `Again`    │
//!            └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: steps 4 and 5 do what was there when they began. What a callback adds waits for the
//! next turn, so no source can keep the loop from looking at the others. An event for a
//! source that is in the queue anyway is told there, and is no call of its own.
//!
//! Read next: `polling.rs` (steps 1 and 2), `sources.rs` and `slots.rs` (where sources live), `watch.rs` (the smallest source), then
//! `../transport/connection.rs` (the one that matters).

mod clock;
mod later;
mod level;
mod observe;
mod polling;
mod ready;
mod remote;
mod signals;
mod slots;
mod sources;
mod timers;
mod watch;

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

pub use observe::{Activity, Call, Observer, Run, Sleep, Turn};
pub use ready::Ready;
pub use remote::{Remote, Stopped};
pub use slots::{Handle, Id};
pub use timers::Timer;

use clock::Clock;
use signals::Signals;
use slots::Slots;
use timers::Timers;

/// Bytes in the scratch buffer, the largest read there is. This size decides how fast bulk goes:
/// a smaller one means more system calls for the same bytes.
pub const SCRATCH: usize = 256 * 1024;

/// The most events that one poll brings. What does not fit comes with the next one.
const EVENTS: usize = 1024;

/// Something that is called when it is ready: a state machine for one token.
///
/// Most programs need none of their own: they write a [`Protocol`](crate::Protocol) or a closure
/// for [`Reactor::watch`].
pub trait Source: Any {
    /// Called with what is new. It may do anything to the reactor, and to other sources; its own
    /// slot is empty meanwhile, so nobody can enter it a second time.
    ///
    /// Events are edge-triggered. The source goes on until a system call answers `WouldBlock` (then
    /// [`Next::Wait`]), or until it has done its ration (then [`Next::Again`]).
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next;

    /// What it is, for whoever watches the loop: the name of its type, unless it has a better one.
    fn kind(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// What it has done so far, for whoever watches the loop.
    fn activity(&self) -> Option<Activity> {
        None
    }
}

/// What a source wants after it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call me when something changes.
    Wait,
    /// I stopped before `WouldBlock`: call me again, after everybody else had theirs.
    Again,
    /// I am finished: drop me, and close what I own.
    Done,
}

/// Something to do later.
enum Job {
    Call(Box<dyn FnOnce(&mut Reactor)>),
    Wake(Id),
}

/// The event loop.
///
/// It belongs to one thread, and the compiler sees to it; another thread calls in through
/// [`Reactor::remote`]:
///
/// ```compile_fail,E0277
/// let reactor = echo_reactor::Reactor::new().unwrap();
/// std::thread::spawn(move || drop(reactor)); // a Reactor is not Send
/// ```
///
/// ```
/// use std::time::Duration;
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = echo_reactor::Reactor::new()?;
/// reactor.call_later(Duration::from_millis(5), |reactor| reactor.stop());
/// reactor.run()
/// # }
/// ```
pub struct Reactor {
    poll: Poll,
    /// `None` while a turn is under way.
    events: Option<Events>,
    slots: Slots,
    /// Descriptors that stay in epoll when their source is dropped, unless they are deregistered.
    lent: BTreeSet<(Id, RawFd)>,
    timers: Timers,
    queue: VecDeque<Job>,
    clock: Clock,
    /// How long to poll before sleeping.
    spin: Duration,
    /// `None` while it is lent.
    scratch: Option<Box<[u8]>>,
    remote: Option<Remote>,
    signals: Option<Signals>,
    observers: Vec<Box<dyn Observer>>,
    turns: u64,
    stopping: bool,
}

impl Reactor {
    /// A reactor without sources.
    ///
    /// # Errors
    /// When the kernel has no descriptor left for an epoll instance, see `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Reactor {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENTS)),
            slots: Slots::default(),
            lent: BTreeSet::new(),
            timers: Timers::default(),
            queue: VecDeque::new(),
            clock: Clock::System(Cell::new(None)),
            spin: Duration::ZERO,
            scratch: Some(new_scratch()),
            remote: None,
            signals: None,
            observers: Vec::new(),
            turns: 0,
            stopping: false,
        })
    }

    // ---- running

    /// Turns until [`stop`](Self::stop) is called (asyncio: `run_forever`).
    ///
    /// # Errors
    /// Only the loop's own: a failed poll, or a call from inside a turn.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.stopping {
            self.turn(None)?;
        }
        self.stopping = false;
        Ok(())
    }

    /// Turns until `done` says so (`true`) or the time, by the system's clock, is up (`false`).
    /// [`stop`](Self::stop) does not end it.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&mut Reactor) -> bool,
    ) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if done(self) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.turn(Some(left))?;
        }
    }

    /// Ends [`run`](Self::run) after the turn that is under way.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// One turn. It sleeps for `at_most` that long, if given.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        let Some(mut events) = self.events.take() else {
            return Err(io::Error::other("a turn of this reactor is under way already"));
        };
        let polled = self.poll_events(&mut events, at_most);
        if polled.is_ok() {
            self.turns += 1;
            let began = self.is_observed().then(Instant::now);
            for event in &events {
                self.dispatch_event(event);
            }
            self.run_timers();
            self.run_queue();
            if let Some(began) = began {
                let turn = Turn { number: self.turns, began, ended: Instant::now() };
                self.tell(|observer| observer.turned(&turn));
            }
        }
        self.events = Some(events);
        polled
    }

    fn dispatch_event(&mut self, event: &mio::event::Event) {
        let (id, ready) = (Id::from_token(event.token()), Ready::of(event));
        match self.slots.take_out_for_event(id, ready) {
            Some(source) => self.run_source(source, id, ready),
            None if event.token() == remote::TOKEN => self.run_remote_jobs(),
            None => {} // it is queued, or gone
        }
    }

    fn run_timers(&mut self) {
        if self.timers.len() == 0 {
            return;
        }
        let (now, mark) = (self.now(), self.timers.mark());
        while let Some(job) = self.timers.take_due(now, mark) {
            match job {
                Job::Call(call) => self.call(true, call),
                Job::Wake(id) => self.dispatch(id, Ready::DUE),
            }
        }
    }

    fn run_queue(&mut self) {
        for _ in 0..self.queue.len() {
            match self.queue.pop_front() {
                Some(Job::Call(call)) => self.call(false, call),
                Some(Job::Wake(id)) => {
                    if let Some(ready) = self.slots.unqueue(id) {
                        self.dispatch(id, ready);
                    }
                }
                None => break,
            }
        }
    }

    fn call(&mut self, by_timer: bool, f: Box<dyn FnOnce(&mut Reactor)>) {
        if self.is_observed() { self.call_observed(by_timer, f) } else { f(self) }
    }

    fn dispatch(&mut self, id: Id, ready: Ready) {
        if let Some(source) = self.slots.take_out(id) {
            self.run_source(source, id, ready);
        }
    }

    /// Calls a source that was taken out, and puts it back.
    #[allow(clippy::inline_always, reason = "into the loop over events, which does little else")]
    #[inline(always)]
    fn run_source(&mut self, mut source: Box<dyn Source>, id: Id, ready: Ready) {
        let next = if self.is_observed() {
            self.run_observed(source.as_mut(), id, ready)
        } else {
            source.ready(id, ready, self)
        };
        if self.slots.put_back(id, source).is_err() {
            return; // It was removed, or replaced, while it ran.
        }
        match next {
            Next::Wait => {}
            Next::Again => self.call_again(id),
            Next::Done => self.remove(id),
        }
    }

    /// Lends the scratch buffer of [`SCRATCH`] bytes. One buffer serves all sources, because only
    /// one runs at a time; so an idle connection owns none. A call within the call gets a buffer
    /// of its own.
    pub fn with_scratch<R>(&mut self, f: impl FnOnce(&mut Reactor, &mut [u8]) -> R) -> R {
        let mut scratch = self.scratch.take().unwrap_or_else(new_scratch);
        let result = f(self, &mut scratch);
        self.scratch = Some(scratch);
        result
    }
}

fn new_scratch() -> Box<[u8]> {
    vec![0; SCRATCH].into_boxed_slice()
}
