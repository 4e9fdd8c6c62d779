//! Telling by level: a source is called in every turn for as long as its descriptor is readable. All others
//! are told by edge, which is the only trigger that `mio` knows.
//!
//! Only the listener is told so. By edge it would have to accept until `WouldBlock`, and of all system calls
//! that fail this is the dear one: the kernel makes a socket and a file before it looks whether anybody
//! waits. By level it may stop where it likes.
//!
//! Invariant: who cannot use what it is told mutes it, else the loop would spin. It would also spin on an
//! event that nobody is left to use: so the descriptor is deregistered when its source goes, as closing it is
//! not enough where another process holds it, too.
//!
//! Read next: `../transport/listener.rs`, who uses it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::{Id, Reactor};
use crate::sys;

const HEARD: libc::c_int = libc::EPOLLIN;

/// Of a hang-up or an error epoll tells in any case: by edge, so that it is once.
const MUTED: libc::c_int = libc::EPOLLET;

impl Reactor {
    /// Registers a descriptor for a source, which is called as often as it is readable.
    pub(crate) fn attach_level(&mut self, id: Id, descriptor: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, id, descriptor, HEARD)?;
        self.lend(id, descriptor.as_fd().as_raw_fd());
        Ok(())
    }

    /// Has a source told nothing more of such a descriptor, or told again.
    pub(crate) fn set_muted(&self, id: Id, descriptor: &impl AsFd, muted: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, id, descriptor, if muted { MUTED } else { HEARD })
    }

    /// Lets go of such a descriptor, with which its source is about to part.
    pub(crate) fn detach_level(&mut self, id: Id, descriptor: &impl AsFd) {
        self.take_back(id, descriptor.as_fd().as_raw_fd());
    }

    fn control(
        &self,
        operation: libc::c_int,
        id: Id,
        descriptor: &impl AsFd,
        events: libc::c_int,
    ) -> io::Result<()> {
        sys::control_epoll(&self.poll, operation, descriptor, events, id.token().0 as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::reactor::{Next, Observer, Ready, Sleep, Source};

    /// A source that uses nothing of what it is told.
    struct Idle;

    impl Source for Idle {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            Next::Wait
        }
    }

    struct CountEvents(Rc<Cell<usize>>);

    impl Observer for CountEvents {
        fn slept(&mut self, sleep: &Sleep) {
            self.0.set(self.0.get() + sleep.events);
        }
    }

    /// A reactor with one socket that is told of by level.
    struct Scene {
        reactor: Reactor,
        events: Rc<Cell<usize>>,
        id: Id,
        socket: UnixStream,
        peer: UnixStream,
    }

    impl Scene {
        fn new() -> Self {
            let (mut reactor, events) = (Reactor::new().unwrap(), Rc::default());
            reactor.observe(CountEvents(Rc::clone(&events)));
            let (socket, peer) = UnixStream::pair().unwrap();
            let id = reactor.insert(Idle).id();
            reactor.attach_level(id, &socket).unwrap();
            Scene { reactor, events, id, socket, peer }
        }

        fn mute(&self, muted: bool) {
            self.reactor.set_muted(self.id, &self.socket, muted).unwrap();
        }

        fn events_in_three_turns(&mut self) -> usize {
            self.events.set(0);
            for _ in 0..3 {
                self.reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            self.events.get()
        }
    }

    #[test]
    fn it_is_told_of_in_every_turn_until_it_is_muted() {
        let mut scene = Scene::new();
        scene.peer.write_all(b"x").unwrap();
        assert_eq!(scene.events_in_three_turns(), 3);
        scene.mute(true);
        assert_eq!(scene.events_in_three_turns(), 0);
        scene.mute(false);
        assert_eq!(scene.events_in_three_turns(), 3);
    }

    #[test]
    fn a_hang_up_while_it_is_muted_does_not_make_the_loop_spin() {
        let mut scene = Scene::new();
        scene.mute(true);
        scene.peer.shutdown(Shutdown::Both).unwrap();
        assert_eq!(scene.events_in_three_turns(), 1);
    }

    #[test]
    fn nothing_is_told_of_a_source_that_is_gone_though_its_descriptor_is_open_elsewhere() {
        let mut scene = Scene::new();
        scene.peer.write_all(b"x").unwrap();
        assert_eq!(scene.events_in_three_turns(), 3);
        scene.reactor.remove(scene.id);
        assert_eq!(scene.events_in_three_turns(), 0);
    }
}
