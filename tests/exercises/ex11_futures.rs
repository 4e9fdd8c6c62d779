//! Exercise 11: a future that waits for another thread.
//!
//! The other thread calls `send` once. A task polls `Receive` and sleeps while it is pending. A
//! mailbox has a `value: Option<u32>` and a `waker: Option<Waker>`, and `mailbox.lock()` gives
//! access to both. The task must never sleep when the value is there. It may be polled needlessly,
//! and each time with another waker.
//! The types that you need are in `checks/ex11_futures.rs`. You may read it.
//!
//!     cargo test --test exercises ex11_futures -- --ignored

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::checks::ex11_futures::Mailbox;

/// Waits for the value.
pub struct Receive {
    mailbox: Mailbox,
}

impl Receive {
    pub fn new(mailbox: Mailbox) -> Self {
        Receive { mailbox }
    }
}

impl Future for Receive {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<u32> {
        todo!("leave `context.waker().clone()` before you return `Poll::Pending`. Who may run in between?")
    }
}

/// Puts the value into the mailbox, and wakes the task that waits for it, if there is one.
pub fn send(mailbox: &Mailbox, value: u32) {
    todo!()
}
