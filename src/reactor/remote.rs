//! Calls from other threads.
//!
//! Invariant: the reactor never leaves its thread. Other threads send jobs to its inbox. The thread
//! that sends the first job triggers the waker. If the reactor leaves jobs for the next turn, it
//! triggers the waker again. So one event is enough for many jobs, and threads that send faster
//! than the loop works cannot starve its sources.
//!
//! Read next: `mod.rs`, step 3 of a turn.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::{Token, Waker};

use super::{Id, Reactor, Ready};

/// No `Id` has this token, because that would take 2^32 slots.
pub(super) const TOKEN: Token = Token(usize::MAX);

/// How many jobs from other threads are taken in one turn.
const JOBS_PER_TURN: usize = 1024;

enum Job {
    Call(Box<dyn FnOnce(&mut Reactor) + Send>),
    Enqueue(Id, Ready),
}

struct Inbox {
    waker: Waker,
    jobs: VecDeque<Job>,
}

/// A handle to the reactor for any thread (asyncio: `call_soon_threadsafe`).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = echo_reactor::Reactor::new()?;
/// let remote = reactor.remote()?;
/// std::thread::spawn(move || remote.call(|reactor| reactor.stop()));
/// reactor.run()
/// # }
/// ```
#[derive(Clone)]
pub struct Remote {
    /// `None`: the reactor is gone.
    shared: Arc<Mutex<Option<Inbox>>>,
}

/// The error of a call through a [`Remote`] whose reactor is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is gone")
    }
}

impl Error for Stopped {}

impl Remote {
    /// Calls `f` on the reactor's thread in its next turn, and wakes that thread if it sleeps. A
    /// turn takes at most 1024 calls from other threads, in order. The rest waits for the turn
    /// after it.
    ///
    /// The number of calls that wait has no limit. A thread that may be faster than the loop must
    /// limit them itself. For example, it waits for an answer on a channel before the next call.
    ///
    /// # Errors
    /// [`Stopped`] if the reactor is gone.
    pub fn call(&self, f: impl FnOnce(&mut Reactor) + Send + 'static) -> Result<(), Stopped> {
        self.push(Job::Call(Box::new(f)))
    }

    /// Calls [`Reactor::wake`] from any thread.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub fn wake(&self, id: Id) -> Result<(), Stopped> {
        self.push(Job::Enqueue(id, Ready::WOKEN))
    }

    /// Calls a source from any thread, with [`Ready::NONE`].
    pub(crate) fn call_again(&self, id: Id) -> Result<(), Stopped> {
        self.push(Job::Enqueue(id, Ready::NONE))
    }

    /// Locks the inbox. It is intact even if a thread panicked while it held the lock.
    fn inbox(&self) -> MutexGuard<'_, Option<Inbox>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Stopped> {
        let woken = {
            let mut guard = self.inbox();
            let inbox = guard.as_mut().ok_or(Stopped)?;
            inbox.jobs.push_back(job);
            if inbox.jobs.len() == 1 { inbox.waker.wake() } else { Ok(()) }
        };
        report(woken);
        Ok(())
    }
}

impl Reactor {
    /// Returns a [`Remote`] for other threads.
    ///
    /// # Errors
    /// If there is no descriptor left for the waker (`eventfd(2)`), at the first call only.
    pub fn remote(&mut self) -> io::Result<Remote> {
        if let Some(remote) = &self.remote {
            return Ok(remote.clone());
        }
        let waker = Waker::new(self.poll.registry(), TOKEN)?;
        let shared = Arc::new(Mutex::new(Some(Inbox { waker, jobs: VecDeque::new() })));
        Ok(self.remote.insert(Remote { shared }).clone())
    }

    /// Moves jobs from other threads to the queue of this turn.
    pub(super) fn queue_remote_jobs(&mut self) {
        let Some(remote) = &self.remote else { return };
        let (jobs, woken) = match remote.inbox().as_mut() {
            None => return,
            Some(inbox) if inbox.jobs.len() <= JOBS_PER_TURN => (mem::take(&mut inbox.jobs), Ok(())),
            Some(inbox) => {
                let woken = inbox.waker.wake(); // the next turn takes more
                (inbox.jobs.drain(..JOBS_PER_TURN).collect(), woken)
            }
        };
        report(woken); // without the lock: a logger may use a `Remote`
        for job in jobs {
            match job {
                Job::Call(call) => self.call_soon(call),
                Job::Enqueue(id, ready) => drop(self.enqueue(id, ready)),
            }
        }
    }

    /// Refuses further calls, including those of a `Remote` that is created later. Drops the calls
    /// that are waiting.
    pub(super) fn close_remote(&mut self) {
        let remote = self.remote.get_or_insert_with(|| Remote { shared: Arc::default() });
        // Dropped outside the lock: dropping a job may drop a value that uses this `Remote`.
        let inbox = remote.inbox().take();
        drop(inbox);
    }
}

fn report(woken: io::Result<()>) {
    if let Err(error) = woken {
        log::error!("cannot wake the reactor: {error}");
    }
}

crate::opaque_debug!(Remote);
