//! Operations: calls, timers and attempts to connect that the reactor carries out for a future.
//!
//! A future cannot hold `&mut Reactor` while it waits. So it queues a closure that begins the
//! operation, and is woken when the operation is complete.
//!
//! Invariant: an operation that is dropped leaves nothing behind in the reactor: no timer, no
//! source, no descriptor.
//!
//! Read next: `../reactor/loop_handle.rs`, the queue; `combinators.rs`, waiting for several things.

use std::any::type_name;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::state::STOPPED_READS;
use super::stream::StreamSource;
use super::task::Waiter;
use super::{Either, Reader, Writer, race};
use crate::mailbox::{Mailbox, TryRecv};
use crate::net::{Address, ConnectError, ConnectOptions, NotConnected, connect};
use crate::reactor::{Handle, Id, LoopHandle, Next, Reactor, Ready, SCRATCH_SIZE, Source, Timer};
use crate::transport::{Duplex, KERNEL_BUFFER};

/// The side of an operation that the future holds. Its output is `None` if the operation will never
/// be complete.
pub(super) struct Operation<R> {
    shared: Rc<Shared<R>>,
    handle: LoopHandle,
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
enum Stage {
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
    fn start(
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

fn start_polling<R: 'static>(
    handle: &LoopHandle,
    f: impl FnMut(&mut Reactor, Id) -> Poll<R> + 'static,
) -> Operation<R> {
    Operation::start(handle, move |reactor, completion| {
        let id = reactor.insert(Poller { f, completion: Some(completion) }).id();
        reactor.dispatch(id, Ready::NONE);
        Stage::Source(id)
    })
}

/// The error of [`LoopHandle::timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(ErrorKind::TimedOut, elapsed)
    }
}

/// Operations that a future can await. If the reactor is gone, the future waits forever, except for
/// [`recv`](LoopHandle::recv). If a closure that was passed to an operation panics, the panic
/// continues in the future.
impl LoopHandle {
    /// Calls `f` with the reactor, and returns what it returns.
    pub async fn call<R: 'static>(&self, f: impl FnOnce(&mut Reactor) -> R + 'static) -> R {
        let begin = move |reactor: &mut Reactor, completion: Completion<_>| {
            completion.complete(catch_unwind(AssertUnwindSafe(|| f(reactor))));
            Stage::Complete
        };
        Operation::start(self, begin).or_never().await.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Calls `f` with the reactor and an [`Id`], now and each time that this `Id` is woken, until
    /// `f` returns `Ready`. So a future can wait for anything that wakes sources, such as a mailbox
    /// or an [`Output`](crate::Output). If something else removes the source of this `Id`, the future
    /// never completes.
    ///
    /// ```
    /// # use echo_reactor::{Flow, Handle, LoopHandle, Output};
    /// # use std::task::Poll;
    /// /// Writes on stdout, and waits while it is full.
    /// async fn print(handle: &LoopHandle, stdout: Handle<Output>, text: Vec<u8>) {
    ///     handle
    ///         .poll_fn(move |reactor, id| match stdout.flow(reactor, id) {
    ///             Flow::Full => Poll::Pending,
    ///             Flow::Open | Flow::Closed => Poll::Ready(stdout.write(reactor, id, &text)),
    ///         })
    ///         .await;
    /// }
    /// ```
    pub async fn poll_fn<R: 'static>(&self, mut f: impl FnMut(&mut Reactor, Id) -> Poll<R> + 'static) -> R {
        let catching =
            move |reactor: &mut Reactor, id| match catch_unwind(AssertUnwindSafe(|| f(reactor, id))) {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            };
        start_polling(self, catching).or_never().await.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Waits for `delay` (asyncio: `sleep`).
    pub async fn sleep(&self, delay: Duration) {
        let begin = move |reactor: &mut Reactor, completion: Completion<()>| {
            let end = reactor.after(delay);
            Stage::Timer(reactor.call_at(end, move |_| completion.complete(())))
        };
        Operation::start(self, begin).or_never().await;
    }

    /// Waits for `future`, but no longer than `limit` (asyncio: `wait_for`). When the time is up,
    /// `future`, or a task that it waits for, may need some more turns to read what has arrived
    /// already. It gets them while reads of any stream stop at their budget, for about 32 turns, which
    /// are enough for 8 MiB if its reads are large. Then `future` is dropped. (An item of a mailbox
    /// that was there in time may be missed, if other sources that were woken for it do not take it.)
    ///
    /// # Errors
    /// [`Elapsed`] if the time is up first.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let time_is_up = async {
            self.sleep(limit).await;
            for _ in 0..KERNEL_BUFFER / SCRATCH_SIZE {
                let before = STOPPED_READS.get();
                self.call(|_| ()).await; // returns in a later turn
                if STOPPED_READS.get() == before {
                    break; // everything that had arrived is read
                }
            }
        };
        match race(future, time_is_up).await {
            Either::First(output) => Ok(output),
            Either::Second(()) => Err(Elapsed),
        }
    }

    /// Connects to the first of `addresses` that answers (asyncio: `open_connection`).
    ///
    /// It does not take host names, because looking up a name blocks. Look names up before the loop
    /// runs, or on a thread that sends the result to a mailbox:
    ///
    /// ```
    /// use echo_reactor::{Address, LoopHandle, Mailbox};
    /// use std::{io, net::ToSocketAddrs, thread};
    ///
    /// async fn resolve(handle: &LoopHandle, name: String, port: u16) -> io::Result<Vec<Address>> {
    ///     let mailbox = handle.call(|reactor| Mailbox::new(reactor, 1)).await;
    ///     let remote = handle.remote().clone();
    ///     thread::spawn(move || {
    ///         let found = (name, port).to_socket_addrs().map(|all| all.map(Address::from).collect());
    ///         remote.call(move |reactor| drop(mailbox.try_send(reactor, mailbox.id(), found)))
    ///     });
    ///     let found = handle.recv(mailbox).await;
    ///     handle.call(move |reactor| reactor.remove(mailbox.id())).await;
    ///     found.unwrap_or_else(|| Err(io::Error::other("the mailbox is closed")))
    /// }
    /// # fn main() -> io::Result<()> {
    /// # let mut reactor = echo_reactor::Reactor::new()?;
    /// # let handle = reactor.handle()?;
    /// # let resolved = async move { resolve(&handle, "127.0.0.1".to_owned(), 7).await };
    /// # assert_eq!(reactor.run_until_complete(resolved)??, ["127.0.0.1:7".parse()?]);
    /// # assert_eq!(reactor.source_count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error lists every address that was tried, and why it failed.
    pub async fn open_connection(
        &self,
        addresses: &[Address],
        options: &ConnectOptions,
    ) -> Result<(Reader, Writer), ConnectError> {
        let (handle, addresses, options) = (self.clone(), addresses.to_vec(), options.clone());
        let begin = move |reactor: &mut Reactor, completion: Completion<_>| {
            let connector =
                connect::<StreamSource>(reactor, &addresses, &options, move |reactor, id, result| {
                    match result {
                        Ok((socket, peer)) => {
                            let (duplex, name) =
                                (Duplex::new(socket, Some(peer)), type_name::<StreamSource>());
                            let (source, reader, writer) = StreamSource::new(&handle, id, duplex, None, name);
                            reactor.install(id, source);
                            completion.complete(Ok((reader, writer)));
                        }
                        Err(NotConnected::Failed(error)) => completion.complete(Err(error)),
                        Err(NotConnected::Removed) => {} // the operation was dropped
                    }
                });
            Stage::Source(connector.id())
        };
        Operation::start(self, begin).or_never().await
    }

    /// Receives the oldest item of a mailbox; waits if there is none (asyncio: `Queue.get`).
    /// Returns `None` if the mailbox is closed, or the reactor is gone. If this future is dropped,
    /// no item is lost: an item that it has received is put back in its place. (Until it is there
    /// again, another receiver of a closed mailbox may get `None`.)
    pub async fn recv<T: 'static>(&self, mailbox: Handle<Mailbox<T>>) -> Option<T> {
        let operation =
            start_polling(self, move |reactor, id| match mailbox.try_recv_numbered(reactor, id) {
                TryRecv::Item(item) => Poll::Ready(Some(item)),
                TryRecv::Closed => Poll::Ready(None),
                TryRecv::Empty => Poll::Pending, // the next item wakes this source
            });
        Receiving { operation, mailbox }.await
    }
}

/// Waits for an item, and puts it back if the wait is dropped.
struct Receiving<T: 'static> {
    operation: Operation<Option<(u64, T)>>,
    mailbox: Handle<Mailbox<T>>,
}

impl<T> Future for Receiving<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.operation).poll(context).map(|item| Some(item.flatten()?.1))
    }
}

impl<T> Drop for Receiving<T> {
    fn drop(&mut self) {
        if let Some(Some(item)) = self.operation.take_result() {
            let mailbox = self.mailbox;
            let _ = self.operation.handle.call_soon(move |reactor| mailbox.put_back(reactor, item));
        }
    }
}

impl<R> Operation<R> {
    /// Takes the result, if the operation is complete.
    pub fn take_result(&self) -> Option<R> {
        self.shared.result.take()
    }

    /// Returns the result. Waits forever if there will be none, because the reactor is gone.
    async fn or_never(self) -> R {
        match self.await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}
