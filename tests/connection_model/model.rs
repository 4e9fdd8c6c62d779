//! The model: a connection without sockets. It predicts the states of the two halves, the callbacks
//! and the reason of the end.
//!
//! Invariant: each transition of a half is recorded with the label that the diagram in
//! `src/transport/duplex/mod.rs` uses.

use crate::events::Action::*;
use crate::events::{ACTIONS, Action, Callback, Event, Kind, Peer, Read, Reason, Timer, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub kind: Kind,
    pub is_made: bool,
    pub read: Read,
    pub write: Write,
    /// Whether bytes wait in the write buffer.
    pub is_blocked: bool,
    pub writing_paused: bool,
    /// Whether a byte of the peer waits in the kernel.
    pub has_input: bool,
    pub peer: Peer,
    pub timer: Timer,
    /// Whether a call has failed because of a reset. Then an end of file is not reported.
    pub was_reset: bool,
    pub lost: Option<Reason>,
}

/// A state with the events that led to it, and what happened on the way.
#[derive(Clone, Debug)]
pub struct Model {
    pub state: State,
    pub callbacks: Vec<Callback>,
    /// Transitions of a half: from, label, to.
    pub transitions: Vec<(String, String, String)>,
    in_next_callback: Option<Action>,
}

impl Model {
    pub fn new(kind: Kind) -> Self {
        let state = State {
            kind,
            is_made: false,
            read: Read::Open,
            write: Write::Open,
            is_blocked: false,
            writing_paused: false,
            has_input: false,
            peer: Peer::Open,
            timer: Timer::None,
            was_reset: false,
            lost: None,
        };
        Model { state, callbacks: Vec::new(), transitions: Vec::new(), in_next_callback: None }
    }

    /// Returns the events that can happen in this state.
    pub fn events(&self) -> Vec<Event> {
        let (state, mut events) = (self.state, Vec::new());
        if state.lost.is_some() {
            return events; // `world.rs` checks that nothing has an effect any more
        }
        events.extend(ACTIONS.map(Event::Do));
        events.extend([Event::Turn, Event::Wake, Event::TimePasses]);
        if !state.is_made || state.read == Read::Open && (state.has_input || self.is_at_end()) {
            events.extend(ACTIONS.map(Event::TurnIn));
        }
        if state.peer == Peer::Open {
            events.push(Event::PeerEnds);
            if !state.has_input {
                events.push(Event::PeerWrites);
            }
        }
        if !self.is_gone() {
            events.push(Event::PeerCloses);
            if state.is_blocked {
                events.push(Event::PeerReads);
            }
        }
        events
    }

    /// Predicts what `event` changes.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Do(Remove) => self.lose(Reason::Aborted),
            Event::Do(action) => {
                self.make();
                if self.state.lost.is_none() {
                    self.act(action);
                    self.after_call();
                }
            }
            Event::PeerWrites => self.state.has_input = true,
            Event::PeerEnds => self.state.peer = Peer::Ended,
            Event::PeerCloses => self.state.peer = Peer::Gone { had_ended: self.state.peer == Peer::Ended },
            Event::Turn => self.turn(),
            Event::TurnIn(action) => {
                self.in_next_callback = Some(action);
                self.turn();
                self.in_next_callback = None;
            }
            Event::PeerReads => {
                self.turn();
                if self.state.lost.is_none() && self.state.is_blocked {
                    self.state.is_blocked = false;
                    self.after_callback();
                }
            }
            Event::Wake => self.turn_after(true),
            Event::TimePasses => {
                self.turn();
                let waits_for_us = self.state.read == Read::Paused
                    && !self.state.is_blocked
                    && (self.state.has_input || self.state.peer != Peer::Open);
                match self.state.timer {
                    Timer::Idle if !waits_for_us => self.lose(Reason::IdleTimeout),
                    Timer::Linger => self.lose(Reason::LingerTimeout),
                    _ => {}
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        let is_open = self.state.write == Write::Open;
        match action {
            WriteSmall | WriteLarge if is_open && !self.state.is_blocked && self.is_gone() => {
                self.fail(false)
            }
            WriteLarge if is_open => self.state.is_blocked = true,
            WriteSmall | WriteLarge => {}
            Pause if self.state.read == Read::Open && self.state.write != Write::Broken => {
                self.set_read("pause", Read::Paused);
            }
            Resume if self.state.read == Read::Paused => self.set_read("resume", Read::Open),
            Pause | Resume => {}
            WriteEof if is_open => self.set_write("write_eof", Write::Draining),
            WriteEof => {}
            Close => {
                if is_open {
                    self.set_write("close", Write::Draining);
                }
                if matches!(self.state.read, Read::Open | Read::Paused) {
                    self.set_read("close", Read::Discarding);
                }
            }
            SetIdleTimeout if self.state.timer == Timer::None => self.state.timer = Timer::Idle,
            SetIdleTimeout => {}
            Abort | Remove => self.lose(Reason::Aborted),
        }
    }

    fn turn(&mut self) {
        self.turn_after(false);
    }

    /// Handles what the peer has done: pending writes, then reads, then a hang-up. A wake-up is
    /// last.
    fn turn_after(&mut self, is_woken: bool) {
        self.make();
        if self.state.lost.is_none() && self.state.is_blocked && self.is_gone() {
            self.fail(false);
            self.after_callback();
        }
        self.read();
        let must_notice = self.state.kind == Kind::Tcp || self.state.read == Read::Eof;
        if self.state.lost.is_none() && self.is_gone() && self.state.write == Write::Open && must_notice {
            self.fail(false);
            self.after_callback();
        }
        if is_woken && self.state.lost.is_none() && !self.is_closing() {
            self.call(Callback::Woken);
        }
        self.read();
    }

    fn read(&mut self) {
        while self.state.lost.is_none() && matches!(self.state.read, Read::Open | Read::Discarding) {
            let is_open = self.state.read == Read::Open;
            if self.state.has_input {
                self.state.has_input = false;
                if is_open {
                    self.call(Callback::Data);
                }
            } else if self.is_at_end() {
                self.set_read("end of file", Read::Eof);
                if is_open && !self.state.was_reset {
                    self.call(Callback::Eof);
                } else {
                    self.after_callback();
                }
            } else if self.is_gone() {
                self.lose(Reason::Failed);
            } else {
                return;
            }
        }
    }

    fn make(&mut self) {
        if !self.state.is_made {
            self.state.is_made = true;
            self.call(Callback::Made);
        }
    }

    fn call(&mut self, callback: Callback) {
        self.callbacks.push(callback);
        if let Some(action) = self.in_next_callback.take() {
            self.act(action);
        }
        self.after_call();
    }

    fn after_call(&mut self) {
        if self.state.write != Write::Open || self.state.is_blocked || self.state.writing_paused {
            self.after_callback();
        }
    }

    fn after_callback(&mut self) {
        if self.state.lost.is_some() {
            return;
        }
        if self.state.is_blocked != self.state.writing_paused && !self.is_closing() {
            self.state.writing_paused = self.state.is_blocked;
            let paused = self.state.is_blocked;
            self.call(if paused { Callback::PauseWriting } else { Callback::ResumeWriting });
            return; // that has done the rest
        }
        if self.state.write == Write::Draining && !self.state.is_blocked {
            if self.state.read != Read::Eof && self.is_gone() && self.state.kind == Kind::Tcp {
                self.fail(true);
            } else {
                self.set_write("all sent", Write::Shutdown);
            }
        }
        match (self.state.read, self.state.write) {
            (Read::Eof, Write::Shutdown) => self.lose(Reason::Closed),
            (Read::Discarding | Read::Eof, Write::Draining) | (Read::Discarding, Write::Shutdown) => {
                self.state.timer = Timer::Linger;
            }
            (Read::Open, Write::Broken) => {} // what has arrived is read first
            (_, Write::Broken) => self.lose(Reason::Failed),
            _ => {}
        }
    }

    /// A write or the shutdown fails.
    fn fail(&mut self, is_shutdown: bool) {
        self.set_write("error", Write::Broken);
        let had_ended = self.state.peer == Peer::Gone { had_ended: true };
        self.state.was_reset = self.state.kind == Kind::Tcp && (is_shutdown || !had_ended);
        self.state.is_blocked = false;
        if self.state.read == Read::Paused {
            self.set_read("error", Read::Open);
        }
    }

    fn lose(&mut self, reason: Reason) {
        if self.state.lost.is_none() {
            self.callbacks.push(Callback::Lost(reason));
            self.state.lost = Some(reason);
        }
    }

    fn set_read(&mut self, label: &str, to: Read) {
        let from = format!("ReadState {:?}", self.state.read);
        self.transitions.push((from, label.into(), format!("{to:?}")));
        self.state.read = to;
    }

    fn set_write(&mut self, label: &str, to: Write) {
        let from = format!("WriteState {:?}", self.state.write);
        self.transitions.push((from, label.into(), format!("{to:?}")));
        self.state.write = to;
    }

    fn is_gone(&self) -> bool {
        matches!(self.state.peer, Peer::Gone { .. })
    }

    /// Whether a read returns the end of file after the input. After a reset it returns the error,
    /// unless another call has returned that before.
    fn is_at_end(&self) -> bool {
        match self.state.peer {
            Peer::Open => false,
            Peer::Ended | Peer::Gone { had_ended: true } => true,
            Peer::Gone { had_ended: false } => {
                self.state.kind == Kind::Unix || self.state.write == Write::Broken
            }
        }
    }

    fn is_closing(&self) -> bool {
        matches!(self.state.read, Read::Discarding | Read::Eof) && self.state.write != Write::Open
    }
}
