//! Streams: `async fn` over a reader and a writer, without a runtime.
//!
//! ```text
//!   kernel ─▶ turn ─▶ StreamSource ─ poll ─▶ Task: your async fn
//!                          │                    │ read, write
//!                          │  before, after     ▼
//!   kernel ◀───────────────┴────────────▶ Stream: a Duplex, and the tasks that wait for it
//! ```
//!
//! A future is a state machine that the compiler writes, and a task is a source that holds a
//! future. When a connection is ready, its source polls the task that waits for it, and the task's
//! `read` then reads from the kernel. There is no executor. (To poll a task is to call
//! `Future::poll`, which runs it until it waits or returns. It has nothing to do with `poll(2)`.) A
//! task's `Waker` works from any thread, so any other future of `std` may be awaited, too.
//!
//! Invariant: the small writes of a future are collected, and sent in one system call when the
//! future waits. The buffer of each direction is bounded. (A `Duplex` is the socket with the state
//! of both directions, see `../transport/duplex/`.)
//!
//! Read next: `stream.rs` (a connection as a source) and `state.rs` (its state), `reader.rs` and
//! `writer.rs` (its halves), `task.rs` (which polls a future), `awaitable.rs` (timers and whatever
//! else a future waits for), `combinators.rs` (waiting for several things).
//!
//! Coming from asyncio or tokio: [`docs::asyncio`](crate::docs::asyncio).

mod awaitable;
mod combinators;
mod operation;
mod reader;
mod state;
mod stream;
mod task;
mod writer;

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Write};
use std::rc::Rc;

pub use awaitable::Elapsed;
pub use combinators::{CopyError, Either, copy, join, join_all, race, race_all, try_join};
pub use reader::Reader;
pub use task::{Cancelled, Task};
pub use writer::Writer;

use crate::net::{Address, ErrorText, ListenOptions, Listener, ListeningSocket, Socket, listen};
use crate::reactor::{Handle, Reactor};
use crate::sys;
use crate::transport::Duplex;
use stream::StreamSource;
use task::TaskSource;

/// Listens on all of `addresses`. If one fails, it listens on none of them. Each connection gets a
/// task of its own, which runs the future that `handler` returns (asyncio: `start_server`).
///
/// When the handler returns, with or without an error, it drops its reader and its writer, and the
/// connection is closed gracefully. Each error is logged as a warning; without a logger it is
/// written to stderr. A peer can cause such a line with each connection, so handle the errors that
/// you expect, such as a reset, in the handler. If a peer disappears, the handler learns of it from
/// the next read or write. The connection counts as open until its socket is closed. After both the
/// reader and the writer are dropped, it sends what is buffered while the peer takes some of it
/// every 30 seconds, and then waits up to 30 seconds for the peer to end its side.
///
/// ```
/// use echo_reactor::{Reactor, Reader, ListenOptions, Writer, start_server};
/// # use std::io;
///
/// async fn echo(mut reader: Reader, mut writer: Writer) -> io::Result<()> {
///     while let Some(line) = reader.read_line(1024).await? {
///         writer.write_all(&line).await?;
///     }
///     Ok(())
/// }
///
/// # fn main() -> io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// start_server(&mut reactor, &["127.0.0.1:0".parse()?], &ListenOptions::default(), echo)?;
/// # Ok(())
/// # }
/// ```
///
/// A handler with shared data is a closure that clones a reference to the data for each connection:
///
/// ```
/// # use echo_reactor::{ListenOptions, Reactor, Reader, Writer, start_server};
/// # use std::{cell::Cell, io, rc::Rc};
/// # async fn serve(_: Reader, mut writer: Writer, count: Rc<Cell<u32>>) -> io::Result<()> {
/// #     count.set(count.get() + 1);
/// #     writer.write_all(format!("you are number {}\n", count.get()).as_bytes()).await
/// # }
/// # fn main() -> io::Result<()> {
/// # let mut reactor = Reactor::new()?;
/// # let addresses = ["127.0.0.1:0".parse()?];
/// let count = Rc::new(Cell::new(0));
/// let handler = move |reader, writer| serve(reader, writer, count.clone());
/// start_server(&mut reactor, &addresses, &ListenOptions::default(), handler)?;
/// # Ok(())
/// # }
/// ```
///
/// To end the connections of a server, make each a task that you can cancel:
///
/// ```
/// # use echo_reactor::{ListenOptions, Reactor, Reader, Task, Writer, start_server};
/// # use std::{cell::RefCell, future, io, rc::Rc};
/// # async fn serve(_: Reader, mut writer: Writer) -> io::Result<()> { writer.write_all(b"hello").await }
/// # fn main() -> io::Result<()> {
/// # let mut reactor = Reactor::new()?;
/// # let addresses = ["127.0.0.1:0".parse()?];
/// let tasks = Rc::new(RefCell::new(Vec::new()));
/// let running = tasks.clone();
/// let handler = move |reader: Reader, writer| {
///     let task = reader.handle().spawn(serve(reader, writer));
///     running.borrow_mut().retain(|task: &Task<_>| !task.is_finished());
///     running.borrow_mut().push(task);
///     future::ready(Ok(())) // an error of the task is in its output
/// };
/// let listener = start_server(&mut reactor, &addresses, &ListenOptions::default(), handler)?;
/// // and later:
/// listener.close(&mut reactor)?;
/// tasks.take().iter().for_each(Task::cancel);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As for [`create_server`](crate::create_server).
pub fn start_server<F>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ListenOptions,
    handler: impl FnMut(Reader, Writer) -> F + 'static,
) -> io::Result<Handle<Listener>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let handle = reactor.handle()?;
    let sockets = ListeningSocket::bind_all(addresses, options)?;
    let handler = Rc::new(RefCell::new(handler));
    listen(reactor, sockets, options, move |reactor, socket, peer, listener| {
        let (name, id) = (std::any::type_name::<F>(), reactor.reserve(&socket, Socket::INTEREST)?);
        let duplex = Duplex::new(socket, Some(peer.clone()));
        let (source, reader, writer) = StreamSource::new(&handle, id, duplex, Some(listener), name);
        reactor.install(id, source);
        let handler = handler.clone();
        // The task calls the handler, so that a panic of the handler cannot end the listener.
        let reported = async move {
            // Boxed, because a future that contains another one can need twice the memory.
            let future = Box::pin(handler.borrow_mut()(reader, writer));
            drop(handler);
            if let Err(error) = future.await {
                report_failure(&peer, &error);
            }
        };
        let task = TaskSource::new(&handle, reported, name).insert(reactor);
        reactor.call_again(task);
        Ok(())
    })
}

/// Reports the error of a handler, because no code awaits the handler.
fn report_failure(peer: &Address, error: &io::Error) {
    let error = ErrorText(error);
    log::warn!("the handler of {peer} failed: {error}");
    let has_logger = log::max_level() != log::LevelFilter::Off;
    if !has_logger && sys::is_ready_now(&io::stderr(), libc::POLLOUT).unwrap_or(false) {
        let _ = writeln!(io::stderr(), "the handler of {peer} failed: {error}");
    }
}
