//! An operation: something that the reactor carries out for a future, such as a timer.
//!
//! A future cannot hold `&mut Reactor` while it waits. So it queues a closure that begins the
//! operation, and is woken when the operation is complete.
//!
//! Invariant: an operation that is dropped leaves nothing behind in the reactor: no timer, no
//! source, no descriptor.
//!
//! Read next: `awaitable.rs`, the operations that there are; `../reactor/loop_handle.rs`, the
//! queue.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::task::Waiter;
use crate::reactor::{Id, LoopHandle, Next, Reactor, Ready, Source, Timer};

/// The side of an operation that the future holds. Its output is `None` if the operation will never
/// be complete.
pub(super) struct Operation<R> {
    shared: Rc<Shared<R>>,
    pub handle: LoopHandle,
}

/// The side of an operation that the reactor holds.
pub(super) struct Completion<R>(Rc<Shared<R>>);

struct Shared<R> {
    result: Cell<Option<R>>,
    waiter: Cell<Option<Waiter>>,
    stage: Cell<Stage>,
}

/// The progress of an operation, and what has to be undone if it is dropped.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// It has not begun.
    New,
    Timer(Timer),
    Source(Id),
    Complete,
    /// The future's side was dropped.
    Dropped,
}

impl<R: 'static> Operation<R> {
    pub fn new(handle: &LoopHandle) -> (Self, Completion<R>) {
        let shared = Rc::new(Shared {
            result: Cell::new(None),
            waiter: Cell::new(None),
            stage: Cell::new(Stage::New),
        });
        (Operation { shared: shared.clone(), handle: handle.clone() }, Completion(shared))
    }

    /// Queues a call of `begin`. If the operation is dropped before that, `begin` is not called.
    pub fn start(
        handle: &LoopHandle,
        begin: impl FnOnce(&mut Reactor, Completion<R>) -> Stage + 'static,
    ) -> Self {
        let (operation, completion) = Operation::new(handle);
        let shared = Rc::downgrade(&operation.shared);
        // If the reactor is gone, this drops the completion.
        let _ = handle.call_soon(move |reactor| {
            if completion.is_abandoned() {
                return;
            }
            let stage = begin(reactor, completion);
            match shared.upgrade().map(|shared| (shared.stage.get(), shared)) {
                Some((Stage::New, shared)) => shared.stage.set(stage),
                Some((Stage::Dropped, _)) | None => stage.take_back(reactor),
                Some(_) => {} // it is complete already
            }
        });
        operation
    }
}

impl<R> Operation<R> {
    /// Takes the result, if the operation is complete.
    pub fn take_result(&self) -> Option<R> {
        self.shared.result.take()
    }

    /// Returns the result. Waits forever if there will be none, because the reactor is gone.
    pub async fn or_never(self) -> R {
        match self.await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}

impl Stage {
    /// Cancels the timer, or removes the source.
    fn take_back(self, reactor: &mut Reactor) {
        match self {
            Stage::Timer(timer) => _ = reactor.cancel(timer),
            Stage::Source(id) => _ = reactor.remove(id),
            Stage::New | Stage::Complete | Stage::Dropped => {}
        }
    }
}

impl<R> Future for Operation<R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R>> {
        if matches!(self.shared.stage.get(), Stage::Complete) {
            return Poll::Ready(self.take_result());
        }
        self.shared.waiter.set(Some(Waiter::new(context)));
        Poll::Pending
    }
}

impl<R> Drop for Operation<R> {
    fn drop(&mut self) {
        let stage = self.shared.stage.replace(Stage::Dropped);
        if matches!(stage, Stage::Timer(_) | Stage::Source(_)) {
            // This fails only if the reactor is gone.
            let _ = self.handle.call_soon(move |reactor| stage.take_back(reactor));
        }
    }
}

impl<R> Completion<R> {
    /// Whether the future's side was dropped.
    fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    pub fn complete(self, result: R) {
        self.0.result.set(Some(result));
    }
}

impl<R> Drop for Completion<R> {
    fn drop(&mut self) {
        if !self.is_abandoned() {
            self.0.stage.set(Stage::Complete);
        }
        if let Some(waiter) = self.0.waiter.take() {
            waiter.wake();
        }
    }
}

/// Calls `f` each time that it is woken, until `f` returns `Ready`.
struct Poller<F, R> {
    f: F,
    completion: Option<Completion<R>>,
}

impl<R: 'static, F: FnMut(&mut Reactor, Id) -> Poll<R> + 'static> Source for Poller<F, R> {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        if self.completion.as_ref().is_none_or(Completion::is_abandoned) {
            return Next::Done;
        }
        let Poll::Ready(result) = (self.f)(reactor, id) else { return Next::Wait };
        if let Some(completion) = self.completion.take() {
            completion.complete(result);
        }
        Next::Done
    }
}

/// Starts an operation that is complete when `f` returns `Ready`. It calls `f` each time that its
/// source is woken.
pub(super) fn start_polling<R: 'static>(
    handle: &LoopHandle,
    f: impl FnMut(&mut Reactor, Id) -> Poll<R> + 'static,
) -> Operation<R> {
    Operation::start(handle, move |reactor, completion| {
        let id = reactor.insert(Poller { f, completion: Some(completion) }).id();
        reactor.dispatch(id, Ready::NONE);
        Stage::Source(id)
    })
}
