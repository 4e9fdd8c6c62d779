//! A single-threaded event loop that you can read in an afternoon, with three styles of writing
//! programs on it.
//!
//! ```text
//!  your program  callbacks: Protocol     async fn: Task     closures: Reactor::watch
//!                        │                     │                    │
//!  transport/,      Connection              Stream                  │     stdio/  Input, Output
//!  streams/             └────── Duplex ────────┘                    │                │
//!                                  │                                │                │
//!  net/              Listener, Connector: make connections          │                │
//!                                  │                                │                │
//!  reactor/      ──────────────────┴──── Source, Id, Ready ─────────┴────────────────┘
//!                            turn: poll ▸ events ▸ queue ▸ timers
//!                                  │
//!  mio              one epoll or kqueue instance
//! ```
//!
//! Data flows one way: kernel → turn → source → protocol → transport → kernel.
//!
//! These words have one meaning everywhere:
//!
//! - The **reactor** is the event loop. A **turn** is one round of it: it waits for events, and
//!   then calls the sources that have something to do.
//! - A **source** is a state machine that the reactor calls: a connection, a listener, or stdin. It
//!   lives in a **slot** of the reactor.
//! - A **protocol** is your code for one connection. Its **transport** is what it writes to.
//! - A peer **ends its side** of a connection when it stops sending: its FIN arrives, and a read
//!   returns 0. It can still receive.
//!
//! **To learn how an event loop works**, build one: [`guide`] is a course of fourteen short
//! chapters. **To use this loop**, read on; [`Protocol`] and [`create_server`] are most of what a
//! server needs. **To see it work**, observe it: [`Reactor::add_observer`], [`Timeline`].
//!
//! # An echo server
//!
//! ```no_run
//! use echo_reactor::{ListenOptions, Protocol, Reactor, Transport, create_server};
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
//!     let addresses = ["127.0.0.1:7777".parse()?];
//!     create_server(&mut reactor, &addresses, &ListenOptions::default(), || Echo)?;
//!     reactor.run()
//! }
//! ```
//!
//! # Where to read
//!
//! | in this order | what it is |
//! | --- | --- |
//! | [`reactor`] | the turn, and what a source is |
//! | `reactor/id.rs`, `reactor/slots.rs` | how a source is named, and where it lives: a slab with generations |
//! | `reactor/registration.rs` | which source gets the events of a descriptor |
//! | `reactor/watch.rs` | the smallest source: a closure |
//! | [`transport`] | what a protocol is, and the order of its callbacks |
//! | `transport/connection.rs` | which callback is called when |
//! | `transport/duplex/` | the two directions of a connection: the read, the write and the close path |
//! | [`net`] | where connections come from: `listener.rs` is the accept path |
//! | [`streams`] | an `async fn` instead of a protocol |
//! | `mailbox.rs`, `waiters.rs` | a bounded queue between sources; which source is woken for an item |
//! | `lines.rs` | splitting bytes into lines |
//! | [`stdio`] | stdin and stdout, of every kind |
//! | [`reactor::observe`], [`timeline`] | observing the loop |
//! | `sys.rs` | all `unsafe` code, and the differences between systems |
//!
//! # Six rules
//!
//! 1. **Taken out, put back.** A source that runs is out of its slot. So `&mut source` and
//!    `&mut Reactor` never overlap, and the compiler checks that. (Rust allows only one mutable
//!    reference to an object at a time.) A callback may do anything: add, wake and remove sources,
//!    even its own source, and stop the loop. Sources share no objects, so there is no
//!    `Rc<RefCell>` between them. (There is one exception: a stream's source shares its state with
//!    the reader and the writer, which belong to a future.)
//! 2. **Addresses, not pointers.** An [`Id`] is the number of a slot and a generation, which counts
//!    the uses of the slot. A [`Handle`] is an `Id` together with the type of the source. When the
//!    source has left, both find nothing. So an event for a source that was removed earlier in the
//!    same turn is dropped, even if another source has its slot now.
//! 3. **Readiness is remembered.** Events are edge-triggered. An event sets a bit, and `WouldBlock`
//!    (Rust's name for `EAGAIN`) clears it. A connection is registered once, for both directions,
//!    so pausing and resuming cost no system call.
//! 4. **Budgets.** A source reads, accepts and writes a bounded amount per turn, and leaves the
//!    rest to the next turn ([`Next::Again`]). So a peer that sends without a pause does not starve
//!    the others.
//! 5. **`?` on `WouldBlock` waits for the next event** in [`Reactor::watch`], which makes a source
//!    from a closure. (`?` returns from the closure with the error.)
//! 6. **One scratch buffer per reactor**, into which the running source reads. A connection that is
//!    idle, or whose peer keeps up, owns no buffer at all; a stream keeps at most 1 KiB in each
//!    direction.
//!
//! Two promises follow. **Nothing fails silently**: a call on something that is running, gone or
//! closed takes effect later, or returns the reason why it cannot ([`Unavailable`]). **A source is
//! notified when it leaves the reactor**, for whatever reason ([`Source::removed`]).
//!
//! # Coming from asyncio
//!
//! Many names are the same as in asyncio. [`docs::asyncio`] has the whole table. [`docs::styles`]
//! compares the three styles and their costs.

// The README's program is compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Implements `Debug` with only the name of the type, for a type that holds closures, sources or
/// buffers.
macro_rules! opaque_debug {
    ($type:ty $(, $parameter:ident)?) => {
        impl$(<$parameter>)? std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($type))
            }
        }
    };
}
use opaque_debug;

#[cfg(feature = "cli")]
#[doc(hidden)] // what the two programs share
pub mod cli;
pub mod docs;
pub mod guide;
mod lines;
mod mailbox;
pub mod net;
pub mod reactor;
pub mod stdio;
pub mod streams;
mod sys;
pub mod timeline;
pub mod transport;
mod waiters;

/// The crate that the reactor is built on. Its sockets and `Interest` appear in this interface.
pub use mio;

pub use lines::{LineBuffer, LineTooLong};
pub use mailbox::{Mailbox, TryRecv, TrySendError};
pub use net::{
    Address, ConnectError, ConnectOptions, ListenOptions, Listener, ListenerStats, ListeningSocket,
    ParseAddressError, Socket,
};
pub use reactor::{
    Handle, Id, LoopHandle, Next, Reactor, Ready, Remote, SCRATCH_SIZE, Source, Stopped, Timer, Unavailable,
    observe,
};
pub use stdio::{Chunk, Descriptor, Direction, Framing, Input, Output};
pub use streams::{
    Cancelled, CopyError, Either, Elapsed, Reader, Task, Writer, copy, join, join_all, race, race_all,
    start_server, try_join,
};
pub use timeline::Timeline;
pub use transport::{
    CloseReason, Connection, ConnectionLost, Flow, Protocol, Transport, create_connection, create_server,
    create_server_with_sockets,
};
