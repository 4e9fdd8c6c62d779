//! A single-threaded event loop that one can read in an afternoon, and three ways to write on it.
//!
//! ```text
//!    your program     callbacks: Protocol       async fn        closures: Reactor::watch
//!                             │                     │                    │
//!    transport/,         Connection               Task                   │     stdio/  Input, Output
//!    streams/                └────── Channel ───────┘                    │                │
//!                         Listener, Connector: where they come from      │                │
//!                                       │                                │                │
//!    reactor/         ──────────────────┴──── Source, Id, Ready ─────────┴────────────────┘
//!                                 turn: poll ▸ events ▸ timers ▸ queue
//!                                       │
//!    mio                       one epoll instance
//! ```
//!
//! Data flows one way: kernel → turn → source → protocol → transport → kernel.
//!
//! **To learn how an event loop works**, take the course: [`guide`], thirteen short chapters. **To use this one**,
//! read on; [`Protocol`] and [`create_server`] are most of what a server needs. **To see it work**, have it
//! watched: [`Reactor::observe`], [`Timeline`].
//!
//! # An echo server
//!
//! ```no_run
//! use echo_reactor::{Protocol, Reactor, Serve, Transport, create_server};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
//!         transport.write(data);
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let mut reactor = Reactor::new()?;
//!     let address = std::net::SocketAddr::from(([127, 0, 0, 1], 7777));
//!     create_server(&mut reactor, &[address.into()], &Serve::default(), || Echo)?;
//!     reactor.run()
//! }
//! ```
//!
//! # Where to read
//!
//! | in this order | what it is |
//! | --- | --- |
//! | [`reactor`] | the turn, and what a source is |
//! | `reactor/slots.rs` | where sources live: a slab with generations |
//! | `reactor/watch.rs` | the smallest source: a closure |
//! | [`transport`] | what a protocol is, and what it may rely on |
//! | `transport/channel/` | the two half-machines of a connection |
//! | `transport/connection.rs` | who calls whom |
//! | `transport/listener.rs`, `connector.rs` | where connections come from |
//! | `reactor/level.rs` | how a listener is told of those who wait |
//! | [`streams`] | `async fn` in the place of a protocol |
//! | `mailbox.rs` | a bounded queue between sources |
//! | [`stdio`] | stdin and stdout, of every kind |
//! | `reactor/observe.rs`, [`timeline`] | watching the loop |
//! | `sys.rs` | all `unsafe` there is |
//!
//! # Six rules
//!
//! 1. **Taken out, put back.** A source that runs is out of its slot. So `&mut source` and `&mut
//!    Reactor` are two things, the compiler knows it, and a callback may do anything: add, remove,
//!    wake, stop, others and itself. Sources share nothing, so there is no `Rc<RefCell>`
//!    between them.
//! 2. **Addresses, not pointers.** An [`Id`] is a slot and a generation, a [`Handle`] an `Id` that
//!    knows a type. Both are `Copy` and go stale harmlessly: an event for a source that was removed
//!    earlier in the same batch, or whose slot has a new tenant, reaches nobody.
//! 3. **Readiness is remembered, not asked for again.** An event sets a bit, `WouldBlock` clears it. A
//!    connection is registered once, for both directions; to pause and resume costs no system call.
//! 4. **Rations.** A source reads, accepts and writes a bounded amount in a turn, and leaves
//!    the rest to the next ([`Next::Again`]). A peer that floods starves nobody.
//! 5. **`?` on `WouldBlock` gives the turn back** in [`Reactor::watch`], the closure form of a source.
//! 6. **One scratch buffer per reactor**, lent to the source that runs. A connection that is idle, or
//!    whose peer keeps up, owns no buffer at all.
//!
//! # Coming from asyncio
//!
//! | asyncio | here |
//! | --- | --- |
//! | `loop.run_forever()`, `stop()` | [`Reactor::run`], [`Reactor::stop`] |
//! | `loop.call_soon`, `call_later`, `call_at` | [`Reactor::call_soon`], [`call_later`](Reactor::call_later), [`call_at`](Reactor::call_at) |
//! | `TimerHandle.cancel()` | [`Reactor::cancel`] |
//! | `loop.call_soon_threadsafe` | [`Remote::call`]; the other mistake does not compile |
//! | `loop.time()` | [`Reactor::now`] |
//! | `loop.add_signal_handler` | [`Reactor::on_signal`] |
//! | `loop.add_reader`, `add_writer` | [`Reactor::watch`], [`Reactor::add`] |
//! | `loop.create_server`, `Server.close`, `wait_closed` | [`create_server`], [`create_server_on`], [`Listener::close`], [`Listener::when_closed`] |
//! | `loop.create_connection` | [`create_connection`], [`Connection::adopt`] |
//! | `Protocol`, `Transport` | [`Protocol`], [`Transport`] |
//! | `transport.get_extra_info('peername')` | [`Transport::peer_addr`] |
//! | `start_server`, `open_connection` | [`start_server`], [`open_connection`] |
//! | `StreamReader`, `StreamWriter` | [`Reader`], [`Writer`] |
//! | `get_running_loop`, `sleep` | [`Reader::running_loop`], [`Loop::sleep`] |
//! | `asyncio.Queue` | [`Mailbox`], [`Inbox`] |
//! | `loop.connect_read_pipe`, `connect_write_pipe` | [`Input`], [`Output`] |
//! | `loop.slow_callback_duration`, the debug mode | [`Reactor::observe`] |

// The README's program is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(not(target_os = "linux"))]
compile_error!("echo-reactor is written for, and tested on, Linux");

#[cfg(feature = "cli")]
pub mod cli;
pub mod guide;
pub mod mailbox;
pub mod reactor;
pub mod stdio;
pub mod streams;
mod sys;
pub mod timeline;
pub mod transport;

pub use mailbox::{Mailbox, Refused, Room, Taken};
pub use reactor::{
    Activity, Call, Handle, Id, Next, Observer, Reactor, Ready, Remote, Run, SCRATCH, Sleep, Source, Stopped,
    Timer, Turn,
};
pub use stdio::{Chunk, Descriptor, Direction, Framing, Input, Output};
pub use streams::{Inbox, Loop, Reader, Winner, Writer, open_connection, race, start_server};
pub use timeline::Timeline;
pub use transport::{
    Address, Connect, Connection, Flow, Listener, ListeningSocket, Plain, Protocol, Reason, Serve, Socket,
    Totals, Transport, create_connection, create_server, create_server_on,
};
