//! A source while it runs: taken out of its slot, and put back.
//!
//! Invariant: however the call ends, also by a panic, the source is put back or removed.
//!
//! Read next: `mod.rs`, which calls sources; `sources.rs`, how a source is removed.

use std::mem;

use super::{Id, Job, Reactor, Source};

/// A source that is out of its slot. It is put back when it returns. If it panics, it is removed,
/// because its state is unknown. It is also removed if a callback has exchanged the reactor for
/// another one (`mem::swap`).
pub(super) struct Running<'a> {
    reactor: &'a mut Reactor,
    id: Id,
    /// `None` after the source was put back.
    source: Option<Box<dyn Source>>,
    /// Whether another source made this call, and continues after it.
    is_nested: bool,
}

impl<'a> Running<'a> {
    pub fn new(reactor: &'a mut Reactor, id: Id, source: Box<dyn Source>) -> Self {
        let is_nested = mem::replace(&mut reactor.is_running, true);
        Running { reactor, id, source: Some(source), is_nested }
    }

    /// Runs the source, and puts it back. Also returns whether the source still has its slot,
    /// because it may have been removed or replaced while it ran.
    pub fn run<R>(mut self, f: impl FnOnce(&mut dyn Source, &mut Reactor) -> R) -> Option<(R, bool)> {
        let result = f(self.source.as_deref_mut()?, self.reactor);
        self.reactor.is_running = self.is_nested;
        let put_back = self.reactor.slots.put_back(self.id, self.source.take()?);
        let has_slot = put_back.map_err(|source| self.reactor.leave(self.id, source)).is_ok();
        mem::forget(self); // it did not panic
        Some((result, has_slot))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            self.reactor.is_running = self.is_nested;
            self.reactor.local.push(Job::Remove(self.id, source));
        }
    }
}
