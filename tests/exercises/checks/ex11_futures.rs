//! A task that polls your future, and another thread that calls your `send`.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::judge::{Verdict, doing, ensure, in_another_thread};

/// The state that the future and the other thread share.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Shared>);

/// The contents of a mailbox.
#[derive(Default)]
pub struct State {
    /// The value that was sent.
    pub value: Option<u32>,
    /// Wakes the task that waits for it.
    pub waker: Option<Waker>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    locks: AtomicUsize,
    /// Is called before the second lock.
    between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Mailbox {
    /// Locks it until the guard is dropped.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        if self.0.locks.fetch_add(1, Ordering::SeqCst) == 1 {
            let between = self.0.between.lock().unwrap().take();
            between.into_iter().for_each(|call| call());
        }
        self.0.state.lock().unwrap()
    }
}

/// The waker of the task. It counts. It may be in the mailbox, so it does not own the mailbox.
struct Task {
    mailbox: Weak<Shared>,
    wakes: AtomicUsize,
    is_early: AtomicBool,
}

impl Task {
    fn new(mailbox: &Mailbox) -> Arc<Self> {
        Arc::new(Task {
            mailbox: Arc::downgrade(&mailbox.0),
            wakes: AtomicUsize::new(0),
            is_early: AtomicBool::new(false),
        })
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        // If it is locked, the task cannot look before the other thread has finished.
        let Some(mailbox) = self.mailbox.upgrade() else { return };
        let is_early = mailbox.state.try_lock().is_ok_and(|state| state.value.is_none());
        self.is_early.fetch_or(is_early, Ordering::SeqCst);
    }
}

type SendFn = fn(&Mailbox, u32);

pub fn check<F: Future<Output = u32>>((send, new): (SendFn, fn(Mailbox) -> F)) -> Verdict {
    doing("in `poll` or `send` (a thread that locks the mailbox twice waits for itself)");
    let send_from_a_thread = move |mailbox: &Mailbox, value| {
        let mailbox = mailbox.clone();
        in_another_thread(move || send(&mailbox, value));
    };
    let poll = |mailbox: &Mailbox, future: std::pin::Pin<&mut F>, task: &Arc<Task>| {
        mailbox.0.locks.store(0, Ordering::SeqCst);
        future.poll(&mut Context::from_waker(&Waker::from(task.clone())))
    };

    let mailbox = Mailbox::default(); // the value is there first
    let (mut future, task) = (pin!(new(mailbox.clone())), Task::new(&mailbox));
    send_from_a_thread(&mailbox, 7);
    let found = poll(&mailbox, future.as_mut(), &task);
    ensure!(found == Poll::Ready(7), "the value 7 is in the mailbox, and `poll` returned {found:?}");

    let mailbox = Mailbox::default(); // the task is there first
    let (mut future, task) = (pin!(new(mailbox.clone())), Task::new(&mailbox));
    let found = poll(&mailbox, future.as_mut(), &task);
    ensure!(found == Poll::Pending, "the mailbox is empty, and `poll` returned {found:?}");
    ensure!(
        task.wakes() == 0,
        "`poll` wakes its own task while the mailbox is empty: the loop is busy. Leave the waker for `send`"
    );
    let has_waker = mailbox.0.state.lock().unwrap().waker.is_some();
    ensure!(
        has_waker,
        "`poll` returned `Pending` and left no waker, so nobody will poll the task again: put it into `waker`"
    );
    send_from_a_thread(&mailbox, 7);
    ensure!(
        task.wakes() > 0,
        "the other thread has sent a value and did not wake the task, which sleeps: take `waker` and wake it"
    );
    ensure!(
        !task.is_early.load(Ordering::SeqCst),
        "`send` woke the task before the value was in the mailbox: \
         the task looks, finds nothing, and sleeps again. Put the value there first"
    );
    let found = poll(&mailbox, future.as_mut(), &task);
    ensure!(found == Poll::Ready(7), "the task was woken for the value 7, and `poll` returned {found:?}");

    let mailbox = Mailbox::default(); // the future moves to another task
    let (mut future, first, second) = (pin!(new(mailbox.clone())), Task::new(&mailbox), Task::new(&mailbox));
    for task in [&first, &second] {
        let found = poll(&mailbox, future.as_mut(), task);
        ensure!(found == Poll::Pending, "the mailbox is empty, and `poll` returned {found:?}");
    }
    send_from_a_thread(&mailbox, 7);
    ensure!(
        second.wakes() > 0,
        "the future was polled by one task and then by another. `send` woke the first one: only the waker of \
         the last poll counts, so each poll leaves its own"
    );

    let mailbox = Mailbox::default(); // the value comes in the middle of a poll
    let (mut future, task) = (pin!(new(mailbox.clone())), Task::new(&mailbox));
    let other = Arc::downgrade(&mailbox.0); // it may never be called
    *mailbox.0.between.lock().unwrap() =
        Some(Box::new(move || send_from_a_thread(&Mailbox(other.upgrade().unwrap()), 7)));
    let found = poll(&mailbox, future.as_mut(), &task);
    let has_value = mailbox.0.state.lock().unwrap().value.is_some();
    ensure!(
        found == Poll::Ready(7) || !has_value || task.wakes() > 0,
        "`poll` looked for the value, unlocked the mailbox, and locked it again to leave its waker. The value \
         came in between, so nobody wakes the task. Lock it once, for both"
    );
    Ok(())
}
