//! Closures as sources: the smallest program on the reactor.
//!
//! Invariant: **`?` on `WouldBlock` waits for the next event.** The closure returns `Ok(())` when
//! it is finished. If it returns `WouldBlock`, it is called again when the descriptor is ready. Any
//! other error, except `Interrupted`, is logged and ends the watch. The closure keeps its state in
//! the variables that it captures.
//!
//! A watch has no budget, so a peer that sends without a pause can hold the loop. An `accept` that
//! fails ends the watch of a listening socket. The next layer solves both problems.
//!
//! Read next: `../transport/mod.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use mio::Interest;

use super::{Id, Next, Reactor, Ready, Source};

struct Watch<S, F> {
    io: S,
    f: F,
}

impl<S, F> Source for Watch<S, F>
where
    S: AsFd + 'static,
    F: FnMut(&mut S, &mut Reactor) -> io::Result<()> + 'static,
{
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        match (self.f)(&mut self.io, reactor) {
            Ok(()) => Next::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::Again,
            Err(error) => {
                log::info!("watch {id} ended: {error}");
                Next::Done
            }
        }
    }

    fn removed(&mut self, id: Id, reactor: &mut Reactor) {
        // Needed if the descriptor stays open, as stdin does. An error only means that the closure
        // has closed it.
        let _ = reactor.deregister(id, &self.io);
    }
}

impl<S: AsFd, F> AsFd for Watch<S, F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl Reactor {
    /// Calls `f` whenever the descriptor may have become readable or writable (asyncio:
    /// `add_reader`, `add_writer`). The descriptor must be non-blocking. `WouldBlock` waits for the
    /// next event. `Ok(())` ends the watch, and so does any other error, which is logged.
    ///
    /// A complete echo server on plain sockets:
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use echo_reactor::Reactor;
    ///
    /// fn serve(reactor: &mut Reactor, listener: mio::net::TcpListener) -> io::Result<()> {
    ///     reactor.watch(listener, |listener, reactor| loop {
    ///         let (stream, _) = listener.accept()?;
    ///         let (mut buffer, mut unsent) = ([0; 4096], 0..0);
    ///         reactor.watch(stream, move |stream, _| loop {
    ///             while !unsent.is_empty() {
    ///                 unsent.start += stream.write(&buffer[unsent.clone()])?;
    ///             }
    ///             unsent = 0..stream.read(&mut buffer)?;
    ///             if unsent.is_empty() {
    ///                 return Ok(()); // end of file: finished
    ///             }
    ///         })?;
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// When the source leaves, it deregisters its descriptor, because a duplicate may keep that
    /// open. So a closure that shares its descriptor with its successor must add that one after it
    /// has returned, from [`call_soon`](Self::call_soon).
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn watch<S: AsFd + 'static>(
        &mut self,
        io: S,
        f: impl FnMut(&mut S, &mut Reactor) -> io::Result<()> + 'static,
    ) -> io::Result<Id> {
        let watch = Watch { io, f };
        Ok(self.add(watch, Interest::READABLE | Interest::WRITABLE)?.id())
    }
}
