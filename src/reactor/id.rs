//! How a source is named: an address instead of a pointer, and why the source may be out of reach.
//!
//! Invariant: an address is a plain value. It can be copied, stored and sent to another thread, and
//! it is harmless when its source has left.
//!
//! Read next: `slots.rs`, why it never names another source.

use std::error::Error;
use std::marker::PhantomData;
use std::{fmt, io};

use mio::Token;

/// The address of a source: a slot, and the generation of the source in it.
///
/// It is `Copy`, and it does not keep the source alive. When the source has left, the id finds
/// nothing. It is only meaningful for the reactor that returned it: another reactor may have a
/// source of its own at the same address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

// A token holds a whole `Id`.
const _: () = assert!(usize::BITS >= 64, "an Id needs a 64-bit token");

impl Id {
    /// Returns the index of the slot. Other sources may have used the same slot before.
    pub(crate) fn slot(self) -> usize {
        self.slot as usize
    }

    #[allow(clippy::cast_possible_truncation)] // checked above: a usize has 64 bits
    pub(super) fn token(self) -> Token {
        Token((u64::from(self.generation) << 32 | u64::from(self.slot)) as usize)
    }

    #[allow(clippy::cast_possible_truncation)] // the two halves of a token
    pub(super) fn from_token(token: Token) -> Self {
        Id { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 }
    }
}

/// Shown as `slot.generation`, as in log lines.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// An [`Id`] together with the type of its source. Operations on one kind of source are methods of
/// its handle, such as [`Handle<Listener>::close`](Handle::close).
pub struct Handle<T> {
    id: Id,
    kind: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// Creates a handle for the source that `id` names, which is expected to be a `T`. A wrong type
    /// is harmless, because it is checked at each use.
    #[must_use]
    pub fn new(id: Id) -> Self {
        Handle { id, kind: PhantomData }
    }

    /// Returns the address without the type.
    #[must_use]
    pub fn id(self) -> Id {
        self.id
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<T> Eq for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.id)
    }
}

/// Why a source cannot be reached through its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// It has left the reactor.
    Gone,
    /// It is running: the call comes from one of its own callbacks, directly or through others.
    Running,
    /// The connection is not established yet.
    Connecting,
    /// The id names a source of another type.
    WrongType,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unavailable::Gone => "the source is gone",
            Unavailable::Running => "the source is running",
            Unavailable::Connecting => "the connection is not established yet",
            Unavailable::WrongType => "the source is of another type",
        })
    }
}

impl Error for Unavailable {}

impl From<Unavailable> for io::Error {
    fn from(error: Unavailable) -> Self {
        io::Error::other(error)
    }
}
