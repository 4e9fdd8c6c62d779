//! One lock covers the look and the waker, so the value comes before both or after both.

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
        let mut state = self.mailbox.lock();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
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
