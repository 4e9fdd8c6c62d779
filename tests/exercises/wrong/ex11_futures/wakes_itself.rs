//! Mistake: `poll` wakes its own task instead of leaving its waker.
//! Verdict: `poll` wakes its own task while the mailbox is empty: the loop is busy

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
        match self.mailbox.lock().value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

pub fn send(mailbox: &Mailbox, value: u32) {
    let mut state = mailbox.lock();
    state.value = Some(value);
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}
