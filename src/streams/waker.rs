//! What wakes a task, from any thread.
//!
//! The task is called again, as after `Next::Again`, and not told that it was woken: then it would wake the
//! parts of its future that have wakers of their own, and these wake the task, for ever.
//!
//! Invariant: it is made before the task has a place in the reactor, and pointed at it once.
//!
//! Read next: `../reactor/remote.rs`, how the call gets to the reactor's thread.

use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use crate::reactor::{Id, Remote};

#[derive(Clone)]
pub(super) struct TaskWaker {
    target: Arc<Target>,
    waker: Waker,
}

struct Target {
    remote: Remote,
    id: OnceLock<Id>,
}

impl TaskWaker {
    pub fn new(remote: Remote) -> Self {
        let target = Arc::new(Target { remote, id: OnceLock::new() });
        let waker = Waker::from(target.clone());
        TaskWaker { target, waker }
    }

    /// The task has its place. It never gets another one.
    pub fn point_at(&self, id: Id) {
        self.target.id.get_or_init(|| id);
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        if let Some(&id) = self.id.get() {
            // Without a reactor nobody is waiting.
            let _ = self.remote.call_again(id);
        }
    }
}
