//! What wakes the connection that a future belongs to, from any thread.
//!
//! Invariant: it is made before the connection has a place in the reactor, and pointed at it once.
//!
//! Read next: `../reactor/remote.rs`, how the call gets to the reactor's thread.

use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use crate::reactor::{Id, Remote};

#[derive(Clone)]
pub(super) struct ConnectionWaker {
    target: Arc<Target>,
    waker: Waker,
}

struct Target {
    remote: Remote,
    id: OnceLock<Id>,
}

impl ConnectionWaker {
    pub fn new(remote: Remote) -> Self {
        let target = Arc::new(Target { remote, id: OnceLock::new() });
        let waker = Waker::from(target.clone());
        ConnectionWaker { target, waker }
    }

    /// The connection has its place. It never gets another one.
    pub fn point_at(&self, id: Id) {
        self.target.id.get_or_init(|| id);
    }

    pub fn id(&self) -> Option<Id> {
        self.target.id.get().copied()
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Wake for Target {
    fn wake(self: Arc<Self>) {
        if let Some(&id) = self.id.get() {
            // Without a reactor nobody is waiting.
            let _ = self.remote.wake(id);
        }
    }
}
