//! The reactor as a future sees it.
//!
//! A future cannot hold `&mut Reactor` while it waits. So it leaves a question, gives its turn back, and
//! finds the answer when it is polled again, in the same turn.
//!
//! Read next: `../mailbox.rs`, which a future can take from, too.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::pipe::SharedPipe;
use crate::mailbox::{Mailbox, TryRecv};
use crate::reactor::{Handle, Id, Reactor, Timer};

/// The reactor of a future (asyncio: what `get_running_loop` returns).
#[derive(Clone)]
pub struct Loop {
    pipe: SharedPipe,
}

impl Loop {
    pub(super) fn new(pipe: SharedPipe) -> Self {
        Loop { pipe }
    }

    /// Calls `f` with the reactor, and with the `Id` of the connection that the future belongs to.
    pub async fn call<R: 'static>(&self, f: impl FnOnce(&mut Reactor, Id) -> R + 'static) -> R {
        let mut f = Some(f);
        self.ask(move |reactor, id| match f.take() {
            Some(f) => Poll::Ready(f(reactor, id)),
            None => Poll::Pending,
        })
        .await
    }

    /// Returns a way to take from a mailbox.
    #[must_use]
    pub fn inbox<T: 'static>(&self, mailbox: Handle<Mailbox<T>>) -> Inbox<T> {
        Inbox(Pending::new(&self.pipe, move |reactor, id| match mailbox.try_recv(reactor, id) {
            TryRecv::Item(item) => Poll::Ready(Some(item)),
            TryRecv::Closed => Poll::Ready(None),
            TryRecv::Empty => Poll::Pending, // and we are woken
        }))
    }

    /// Waits for `delay` (asyncio: `sleep`). One that is given up leaves no timer behind.
    pub async fn sleep(&self, delay: Duration) {
        let set = SetTimer { pipe: self.pipe.clone(), timer: Rc::default() };
        let (timer, mut until) = (set.timer.clone(), None);
        self.ask(move |reactor, id| {
            let when = *until.get_or_insert_with(|| {
                let when = reactor.after(delay);
                timer.set(Some(reactor.wake_at(when, id)));
                when
            });
            if reactor.now() >= when { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until the connection is called for any reason: it was woken, or bytes came.
    pub async fn woken(&self) {
        let mut called = false;
        self.ask(
            move |_, _| if std::mem::replace(&mut called, true) { Poll::Ready(()) } else { Poll::Pending },
        )
        .await;
    }

    /// Asks `f` until it has an answer: now, and each time that the connection is called.
    async fn ask<R: 'static>(&self, f: impl FnMut(&mut Reactor, Id) -> Poll<R> + 'static) -> R {
        let pending = Pending::new(&self.pipe, f);
        poll_fn(|context| pending.poll(context)).await
    }
}

/// A question to the reactor, and its answer. An answer that nobody waited for any more is kept for the
/// next poll.
struct Pending<R> {
    pipe: SharedPipe,
    question: Rc<RefCell<Question<R>>>,
    answer: Rc<Cell<Answer<R>>>,
}

type Question<R> = dyn FnMut(&mut Reactor, Id) -> Poll<R>;

enum Answer<R> {
    /// Nothing is asked.
    None,
    Asked,
    Ready(R),
}

impl<R: 'static> Pending<R> {
    fn new(pipe: &SharedPipe, question: impl FnMut(&mut Reactor, Id) -> Poll<R> + 'static) -> Self {
        let (question, answer) = (Rc::new(RefCell::new(question)), Rc::new(Cell::new(Answer::None)));
        Pending { pipe: pipe.clone(), question, answer }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<R> {
        match self.answer.replace(Answer::Asked) {
            Answer::Ready(answer) => {
                self.answer.set(Answer::None);
                return Poll::Ready(answer);
            }
            Answer::Asked => {}
            Answer::None => {
                let (question, answer) = (self.question.clone(), self.answer.clone());
                self.pipe.borrow().request(Box::new(move |reactor, id| {
                    let answered = (question.borrow_mut())(reactor, id);
                    let is_answered = answered.is_ready();
                    answer.set(if let Poll::Ready(value) = answered {
                        Answer::Ready(value)
                    } else {
                        Answer::None
                    });
                    is_answered
                }));
            }
        }
        self.pipe.borrow().wait(context);
        Poll::Pending
    }
}

/// A timer that is taken back when nobody waits for it any more.
struct SetTimer {
    pipe: SharedPipe,
    timer: Rc<Cell<Option<Timer>>>,
}

impl Drop for SetTimer {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.pipe.borrow().request(Box::new(move |reactor, _| {
                reactor.cancel(timer);
                false
            }));
        }
    }
}

/// A future's hold on a mailbox. What was taken for a wait that was given up is kept here for the next.
pub struct Inbox<T>(Pending<Option<T>>);

impl<T: 'static> Inbox<T> {
    /// Takes the oldest item; waits if there is none (asyncio: `Queue.get`). `None`: it is closed.
    pub async fn take(&mut self) -> Option<T> {
        poll_fn(|context| self.0.poll(context)).await
    }
}

/// Which of two futures was first, and what it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner<A, B> {
    /// The first, or both at once.
    First(A),
    /// The second.
    Second(B),
}

/// Waits for the first of two futures, and drops the other (asyncio: `wait` with `FIRST_COMPLETED`).
/// Every read of a [`Reader`](super::Reader), and [`Inbox::take`], can be dropped while it waits, and
/// nothing is lost.
pub async fn race<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Winner<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| {
        if let Poll::Ready(a) = first.as_mut().poll(context) {
            return Poll::Ready(Winner::First(a));
        }
        second.as_mut().poll(context).map(Winner::Second)
    })
    .await
}

crate::opaque_debug!(Loop);
crate::opaque_debug!(Inbox<T>, T);
