//! Streams: `async fn` over a reader and a writer, without a runtime.
//!
//! ```text
//!   kernel ─▶ turn ─▶ Connection ─▶ Task ── poll ──▶ your async fn
//!                                    │  ▲              │  ▲
//!                                    ▼  │        write │  │ read
//!                                   ┌────┴────────── Pipe ─┴───┐
//!                                   └── incoming ── outgoing ──┘
//! ```
//!
//! A future is a state machine that the compiler wrote. Here it is the [`Protocol`] of its connection:
//! what comes is put where the future's reader finds it, and the future is polled. There is no
//! executor and no queue of tasks: readiness is what polls it. Its `Waker` wakes the connection, from
//! any thread, so any other future of `std` may be awaited as well.
//!
//! Invariant: what a future writes in one go leaves in one system call, after the poll; and no more
//! than a bounded amount waits on either side of it.
//!
//! Read next: `pipe.rs` (what the two share), `waker.rs`, `reader.rs`, `writer.rs`, `running_loop.rs`.

mod pipe;
mod reader;
mod running_loop;
mod waker;
mod writer;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

pub use reader::Reader;
pub use running_loop::{Inbox, Loop, Winner, race};
pub use writer::Writer;

use crate::reactor::{Handle, Reactor, Remote};
use crate::transport::{
    Address, Connect, Connection, Listener, Plain, Protocol, Reason, Serve, Transport, create_connection,
    create_server,
};
use pipe::SharedPipe;
use waker::ConnectionWaker;

/// Polls in a row of a future whose output the socket takes at once. Then the others have their turn.
const RATION: usize = 16;

/// Listens on all of `addresses`, or on none; each connection is given to a future of its own
/// (asyncio: `start_server`).
///
/// A handler that returns ends its connection in order. The error that it returns is logged.
///
/// ```
/// use echo_reactor::{Reactor, Reader, Serve, Writer, start_server};
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
/// let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
/// start_server(&mut reactor, &[address.into()], &Serve::default(), echo)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As for [`create_server`].
pub fn start_server<F>(
    reactor: &mut Reactor,
    addresses: &[Address],
    how: &Serve,
    mut handler: impl FnMut(Reader, Writer) -> F + 'static,
) -> io::Result<Handle<Listener>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let remote = reactor.remote()?;
    create_server(reactor, addresses, how, move || Task::new(remote.clone(), &mut handler))
}

/// Connects to the first of `addresses` that answers, and gives the connection to a future (asyncio:
/// `open_connection`). If none answers, the first call of the reader or writer returns the error.
///
/// # Errors
/// As for [`Reactor::remote`].
pub fn open_connection<F>(
    reactor: &mut Reactor,
    addresses: Vec<Address>,
    how: &Connect,
    handler: impl FnOnce(Reader, Writer) -> F + 'static,
) -> io::Result<Handle<Connection<Task<F>>>>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let task = Task::new(reactor.remote()?, handler);
    let waker = task.waker.clone();
    let handle = create_connection(reactor, addresses, how, task);
    waker.point_at(handle.id());
    Ok(handle)
}

/// A future as a protocol.
pub struct Task<F> {
    /// `None` once it has returned.
    future: Option<Pin<Box<F>>>,
    pipe: SharedPipe,
    waker: ConnectionWaker,
}

impl<F: Future<Output = io::Result<()>> + 'static> Task<F> {
    fn new(remote: Remote, handler: impl FnOnce(Reader, Writer) -> F) -> Self {
        let waker = ConnectionWaker::new(remote);
        let pipe = SharedPipe::new(waker.waker().clone());
        let future = handler(Reader::new(pipe.clone()), Writer::new(pipe.clone()));
        Task { future: Some(Box::pin(future)), pipe, waker }
    }

    /// Polls the future for as long as that gets it on, and sends what it wrote.
    fn run(&mut self, transport: &mut Transport) {
        let id = transport.id();
        for _ in 0..RATION {
            let done = self.poll();
            let outcome = self.pipe.borrow().flush(transport);
            let answered = outcome.asks && self.pipe.answer_requests(transport.reactor(), id);
            if done {
                return transport.close();
            }
            if !answered && !outcome.has_room {
                return;
            }
        }
        transport.reactor().wake(id);
    }

    /// `true`: it has returned.
    fn poll(&mut self) -> bool {
        let Some(future) = &mut self.future else { return true };
        match future.as_mut().poll(&mut Context::from_waker(self.waker.waker())) {
            Poll::Pending => false,
            Poll::Ready(result) => {
                if let Err(error) = result {
                    log::warn!("a handler failed: {}", Plain(&error));
                }
                self.future = None;
                true
            }
        }
    }
}

impl<F: Future<Output = io::Result<()>> + 'static> Protocol for Task<F> {
    fn connection_made(&mut self, transport: &mut Transport) {
        self.waker.point_at(transport.id());
        self.pipe.borrow().peer = transport.peer_addr().ok();
        self.run(transport);
    }

    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.pipe.receive(data);
        self.run(transport);
    }

    /// The future may go on writing: it finds the end of file when it reads.
    fn eof_received(&mut self, transport: &mut Transport) {
        self.pipe.receive_eof();
        self.run(transport);
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        self.pipe.resume();
        self.run(transport);
    }

    fn woken(&mut self, transport: &mut Transport) {
        self.run(transport);
    }

    /// The future goes on for as long as it can without its connection, so that it finds out; then it
    /// is dropped.
    fn connection_lost(&mut self, reactor: &mut Reactor, reason: Reason) {
        self.pipe.lose(&reason);
        let Some(id) = self.waker.id() else { return };
        for _ in 0..RATION {
            let done = self.poll();
            if !self.pipe.answer_requests(reactor, id) || done {
                break;
            }
        }
        if self.future.take().is_some() {
            log::debug!("a handler was still waiting when its connection ended: {reason}");
        }
        self.pipe.answer_requests(reactor, id); // what it had to take back
    }
}
