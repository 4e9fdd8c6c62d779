//! A task: a future that the reactor polls. It is a source without a descriptor.
//!
//! A task is polled when something that it waits for has happened. The source of a connection polls
//! it directly. Everything else queues a poll in the reactor; a [`Waker`] can do so on any thread.
//! There is no executor.
//!
//! Invariants: a future is polled by one caller at a time. When it has returned, panicked or been
//! cancelled, it is dropped, with everything that it owns.
//!
//! Read next: `awaitable.rs`, what a task can wait for besides a stream.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use super::operation::Operation;
use crate::reactor::{Id, LoopHandle, Next, Reactor, Ready, Remote, Source};

type BoxFuture = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// The task that was polled last. If a poll is under way, it is the task of that poll, unless
    /// the poll has run another reactor.
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// What the source, the handles and the wakers of a task share.
pub(super) struct Core {
    handle: LoopHandle,
    /// `None` while the future is polled, and after it has ended.
    future: Cell<Option<BoxFuture>>,
    has_ended: Cell<bool>,
    address: Arc<TaskAddress>,
    waker: Waker,
}

/// What a waker needs to queue a poll from any thread.
struct TaskAddress {
    remote: Remote,
    /// Empty until the task is inserted in the reactor.
    id: OnceLock<Id>,
    /// Whether a poll is queued. The caller that sets it must queue the poll.
    scheduled: AtomicBool,
}

impl TaskAddress {
    /// Marks a poll as queued. Returns the id that the caller must queue, or `None` if a poll is
    /// queued already.
    fn schedule(&self) -> Option<Id> {
        self.id.get().copied().filter(|_| !self.scheduled.swap(true, Ordering::AcqRel))
    }
}

impl Wake for TaskAddress {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(id) = self.schedule() {
            let _ = self.remote.call_again(id); // fails only if the reactor is gone
        }
    }
}

impl Core {
    /// Queues a poll.
    fn schedule(&self) {
        if let Some(id) = self.address.schedule() {
            let _ = self.handle.dispatch_soon(id); // fails only if the reactor is gone
        }
    }

    fn poll(self: &Rc<Self>) {
        let Some(mut future) = self.future.take() else {
            if !self.has_ended.get() {
                self.schedule(); // it was woken during its own poll
            }
            return;
        };
        CURRENT.set(Some(self.clone()));
        let ending = Ending(self);
        if future.as_mut().poll(&mut Context::from_waker(&self.waker)).is_pending() {
            mem::forget(ending);
            if !self.has_ended.get() {
                self.future.set(Some(future));
            }
        }
    }

    /// Drops the future. If it is being polled, it is dropped after that poll.
    fn end(&self) {
        self.has_ended.set(true);
        self.schedule(); // so that its source is removed
        drop(self.future.take());
    }
}

/// Ends a task whose future has returned, or panicked.
struct Ending<'a>(&'a Core);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

pub(super) struct TaskSource {
    core: Rc<Core>,
    type_name: &'static str,
}

impl TaskSource {
    pub fn new(
        handle: &LoopHandle,
        future: impl Future<Output = ()> + 'static,
        type_name: &'static str,
    ) -> Self {
        let address = Arc::new(TaskAddress {
            remote: handle.remote().clone(),
            id: OnceLock::new(),
            scheduled: AtomicBool::new(false),
        });
        let core = Core {
            handle: handle.clone(),
            future: Cell::new(Some(Box::pin(future))),
            has_ended: Cell::new(false),
            waker: Waker::from(address.clone()),
            address,
        };
        TaskSource { core: Rc::new(core), type_name }
    }

    /// Inserts the task in the reactor. The caller has to schedule its first poll.
    pub fn insert(self, reactor: &mut Reactor) -> Id {
        let core = self.core.clone();
        let id = reactor.insert(self).id();
        *core.address.id.get_or_init(|| id)
    }
}

impl Source for TaskSource {
    fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
        // From now on, a wake-up queues another poll. This poll sees everything that happened
        // before the earlier wake-ups.
        self.core.address.scheduled.swap(false, Ordering::AcqRel);
        self.core.poll();
        if self.core.has_ended.get() { Next::Done } else { Next::Wait }
    }

    fn type_name(&self) -> &'static str {
        self.type_name
    }
}

impl Drop for TaskSource {
    fn drop(&mut self) {
        self.core.end();
    }
}

/// What to poll when a wait is over: a task, or a part of a task that has its own waker.
pub(super) enum Waiter {
    Task(Rc<Core>),
    Waker(Waker),
}

impl Waiter {
    pub fn new(context: &Context<'_>) -> Self {
        let is_polled = |core: &&Rc<Core>| core.waker.will_wake(context.waker());
        let task = CURRENT.with_borrow(|current| current.as_ref().filter(is_polled).cloned());
        task.map_or_else(|| Waiter::Waker(context.waker().clone()), Waiter::Task)
    }

    /// Queues a poll.
    pub fn wake(self) {
        match self {
            Waiter::Task(core) => core.schedule(),
            Waiter::Waker(waker) => waker.wake(),
        }
    }

    /// Polls at once. The caller must not have borrowed the state of a stream.
    pub fn poll(self) {
        match self {
            Waiter::Task(core) => core.poll(),
            Waiter::Waker(waker) => waker.wake(),
        }
    }
}

/// A task that was spawned by [`LoopHandle::spawn`] (asyncio: `Task`). It is itself a future, which
/// returns the output of the task. Dropping this value does not end the task.
pub struct Task<T> {
    core: Rc<Core>,
    output: Operation<T>,
}

/// The error of a task that has ended without an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl Error for Cancelled {}

impl<T> Task<T> {
    /// Drops the task's future, with everything that it owns (asyncio: `cancel`). Connections that
    /// it owns are closed gracefully. If a task cancels itself, its future is dropped when it waits
    /// next. (A destructor in that future should not cancel further tasks: a chain of thousands
    /// could overflow the stack.)
    pub fn cancel(&self) {
        self.core.end();
    }

    /// Returns whether the task has ended: it has returned, panicked or been cancelled (asyncio:
    /// `done`).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.core.has_ended.get()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.output).poll(context).map(|output| output.ok_or(Cancelled))
    }
}

impl LoopHandle {
    /// Runs a future as a task of its own (asyncio: `create_task`). It is polled for the first time
    /// in this turn or in the next one. Tasks can share data with `Rc` and `RefCell`; do not hold a
    /// borrow across an `await`. A panic ends the loop, as in any callback.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = echo_reactor::Reactor::new()?;
    /// let handle = reactor.handle()?;
    /// let inner = handle.clone();
    /// handle.spawn(async move {
    ///     let answer = inner.spawn(async { 6 * 7 });
    ///     assert_eq!(answer.await, Ok(42));
    ///     let _ = inner.call_soon(|reactor| reactor.stop());
    /// });
    /// reactor.run()
    /// # }
    /// ```
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
    {
        let (output, completion) = Operation::new(self);
        // Boxed, because a future that contains another one can need twice the memory.
        let mut future = Box::pin(future);
        let future = async move { completion.complete(future.as_mut().await) };
        let source = TaskSource::new(self, future, std::any::type_name::<F>());
        let core = source.core.clone();
        // If the reactor is gone, the source is dropped with the closure, and the task is
        // cancelled.
        let _ = self.call_soon(move |reactor| {
            let id = source.insert(reactor);
            reactor.dispatch(id, Ready::NONE);
        });
        Task { core, output }
    }
}

impl Reactor {
    /// Runs turns until `future` has returned, and returns its output (asyncio:
    /// `run_until_complete`).
    ///
    /// ```
    /// use std::time::Duration;
    /// # fn main() -> std::io::Result<()> {
    /// let mut reactor = echo_reactor::Reactor::new()?;
    /// let handle = reactor.handle()?;
    /// reactor.run_until_complete(async move { handle.sleep(Duration::from_millis(5)).await })
    /// # }
    /// ```
    ///
    /// Connections that still have something to send are reset when the reactor is dropped: await
    /// [`Writer::flush`](super::Writer::flush) before that.
    ///
    /// # Errors
    /// As for [`run`](Self::run); [`Cancelled`] if the loop was stopped before the future returned.
    pub fn run_until_complete<F>(&mut self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
    {
        let task = self.handle()?.spawn(future);
        let ran = self.run_while(|| !task.is_finished());
        task.core.end();
        ran?;
        task.output.take_result().ok_or_else(|| io::Error::other(Cancelled))
    }
}

crate::opaque_debug!(Task<T>, T);
