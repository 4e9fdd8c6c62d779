//! Stdin and stdout of every kind as sources, without side effects.
//!
//! The descriptors 0, 1 and 2 are shared with the process that started the program. `O_NONBLOCK`
//! belongs to the open file description, which `dup(2)` and `fork(2)` share. So setting it on our
//! stdin sets it for the shell as well, and it stays set when the program is killed.
//!
//! Invariant: the flags of a descriptor that we were given are never changed, and no read or write
//! on one blocks the loop. (The exception is a terminal that cannot be reopened: see the known gap
//! in `descriptor.rs`.)
//!
//! Read next: `descriptor.rs` (how), then `input.rs` and `output.rs` (the two sources).

mod descriptor;
mod input;
mod output;

#[cfg(feature = "cli")]
pub(crate) use descriptor::write_shared;
pub use descriptor::{Descriptor, Direction};
pub use input::{Chunk, Framing, Input};
pub use output::Output;
