//! Streams: `async fn` over a reader and a writer, without a runtime.
//!
//! ```text
//!   kernel ─▶ turn ─▶ Task ── poll ──▶ your async fn
//!                       │                │      ▲
//!                       │          write │      │ read
//!                       ▼                ▼      │
//!   kernel ◀─── after the poll ─── Duplex, in a Pipe ◀─── kernel
//! ```
//!
//! A future is a state machine that the compiler wrote. Here it is a source like any other: when its
//! connection is ready it is polled, and a read that it waits for asks the kernel. There is no executor
//! and no queue of tasks: readiness is what polls it. Its `Waker` wakes the task, from any thread, so any
//! other future of `std` may be awaited as well.
//!
//! Invariant: what a future writes in one go leaves in one system call, after the poll; and no more
//! than a bounded amount waits on either side of it.
//!
//! Read next: `task.rs` (who polls), `pipe.rs` and `exchange.rs` (what happens between two polls),
//! `reader.rs`, `writer.rs`, `running_loop.rs`, `waker.rs`.

mod exchange;
mod pipe;
mod reader;
mod running_loop;
mod task;
mod waker;
mod writer;

use std::future::Future;
use std::io;

pub use reader::Reader;
pub use running_loop::{Inbox, Loop, Winner, race};
pub use task::Task;
pub use writer::Writer;

use crate::net::{
    Address, ConnectOptions, ListenOptions, Listener, ListeningSocket, NotConnected, connect, listen,
};
use crate::reactor::observe::IoStats;
use crate::reactor::{Handle, Reactor};
use crate::transport::{CloseReason, Duplex};
use pipe::Line;

/// Listens on all of `addresses`, or on none; each connection is given to a future of its own
/// (asyncio: `start_server`).
///
/// A handler that returns ends its connection in order. The error that it returns is logged.
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
/// # Errors
/// As for [`create_server`](crate::create_server).
pub fn start_server<F>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ListenOptions,
    mut handler: impl FnMut(Reader, Writer) -> F + 'static,
) -> io::Result<Handle<Listener>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let remote = reactor.remote()?;
    let sockets = ListeningSocket::bind_all(addresses, options)?;
    listen(reactor, sockets, options, move |reactor, socket, peer, listener| {
        let duplex = Duplex::new(socket, Some(peer));
        Task::accepted(reactor, duplex, listener, remote.clone(), &mut handler)
    })
}

/// Connects to the first of `addresses` that answers, and gives the connection to a future (asyncio:
/// `open_connection`). If none answers, the first call of the reader or writer returns the error.
///
/// # Errors
/// As for [`Reactor::remote`].
pub fn open_connection<F>(
    reactor: &mut Reactor,
    addresses: &[Address],
    options: &ConnectOptions,
    handler: impl FnOnce(Reader, Writer) -> F + 'static,
) -> io::Result<Handle<Task<F>>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let remote = reactor.remote()?;
    Ok(connect(reactor, addresses, options, move |reactor, id, result| {
        let line = match result {
            Ok(connected) => Line::Up(Duplex::connected(connected)),
            Err(NotConnected::Failed(error)) => {
                let reason = CloseReason::Unreachable(error);
                Line::Down { reason, stats: IoStats::default() }
            }
            Err(NotConnected::Removed) => return, // and so is the future, before it began
        };
        Task::connected(reactor, id, line, remote, handler);
    }))
}
