//! Mistake: the task is woken before the value is there.
//! Verdict: `send` woke the task before the value was in the mailbox

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
    let waker = mailbox.lock().waker.take();
    if let Some(waker) = waker {
        waker.wake();
    }
    mailbox.lock().value = Some(value);
}
