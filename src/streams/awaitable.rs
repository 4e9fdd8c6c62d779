//! What a future can await besides a stream: calls, timers, new connections, and items of a
//! mailbox.
//!
//! Invariant: a future that is dropped while it waits loses no item.
//!
//! Read next: `operation.rs`, how the reactor works for a future; `combinators.rs`, waiting for
//! several things.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::operation::{Completion, Operation, Stage, start_polling};
use super::state::STOPPED_READS;
use super::stream::StreamSource;
use super::{Either, Reader, Writer, race};
use crate::mailbox::{Mailbox, TryRecv};
use crate::net::{Address, ConnectError, ConnectOptions, NotConnected, connect};
use crate::reactor::{Handle, Id, LoopHandle, Reactor, SCRATCH_SIZE};
use crate::transport::{Duplex, KERNEL_BUFFER};

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
    /// or an [`Output`](crate::Output). If something else removes the source of this `Id`, the
    /// future never completes.
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
    /// already. It gets them while reads of any stream stop at their budget, for about 32 turns,
    /// which are enough for 8 MiB if its reads are large. Then `future` is dropped. (An item of a
    /// mailbox that was there in time may be missed, if other sources that were woken for it do not
    /// take it.)
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
