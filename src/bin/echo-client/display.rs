//! Writes the echo: to stdout unchanged, to a person at a terminal, or nowhere (`--check`).
//!
//! Invariant: text is written to the terminal in the order it was composed, so that no text splits
//! an escape sequence. While stdout has buffered text, messages wait.
//!
//! Read next: `screen.rs`, which composes the text.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use echo_reactor::cli::{has_input, is_in_background};
use echo_reactor::{Flow, Handle, Id, Output, Reactor};

use crate::screen::Screen;

#[derive(Clone)]
pub struct Display {
    output: Handle<Output>,
    /// `None` if the program is not interactive.
    screen: Option<Rc<RefCell<Screen>>>,
    shows_echo: bool,
}

impl Display {
    pub fn new(output: Handle<Output>, screen: Option<Rc<RefCell<Screen>>>, shows_echo: bool) -> Self {
        Display { output, screen, shows_echo }
    }

    pub fn is_interactive(&self) -> bool {
        self.screen.is_some()
    }

    /// Returns whether there is room for more data. If not, `waiter` is woken when there is.
    pub fn flow(&self, reactor: &mut Reactor, waiter: Id) -> Flow {
        self.output.flow(reactor, waiter)
    }

    /// Shows data from the server.
    pub fn show(&self, reactor: &mut Reactor, waiter: Id, data: &[u8]) -> Flow {
        match &self.screen {
            _ if !self.shows_echo => Flow::Open,
            None => self.output.write(reactor, waiter, data),
            Some(screen) => {
                let text = screen.borrow_mut().echo(data);
                self.write(reactor, waiter, &text)
            }
        }
    }

    /// Records that the cursor's row has no prompt any more. Returns whether it had one.
    pub fn leave_prompt(&self) -> bool {
        self.screen.as_ref().is_some_and(|screen| screen.borrow_mut().leave_prompt())
    }

    /// Shows the prompt, unless the next line was entered already or the program is in the
    /// background.
    pub fn prompt(&self, reactor: &mut Reactor, waiter: Id) {
        if let Some(screen) = &self.screen
            && !has_input(&io::stdin())
            && !is_in_background(&io::stdin())
        {
            let text = screen.borrow_mut().prompt();
            self.write(reactor, waiter, &text);
        }
    }

    /// Shows the prompt after the program was stopped and continued: the shell has left the cursor
    /// on a new row.
    pub fn resume(&self, reactor: &mut Reactor) {
        self.leave_prompt();
        self.prompt(reactor, self.output.id());
    }

    /// Moves the cursor to an empty row, and calls `f` when everything is written.
    pub fn finish(&self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        if let Some(screen) = &self.screen {
            let mut screen = screen.borrow_mut();
            let end = if screen.leave_prompt() { "\n" } else { "" };
            let text = screen.release() + &screen.finish() + end;
            drop(screen);
            self.write(reactor, self.output.id(), &text);
        }
        self.output.on_flushed(reactor, f);
    }

    fn write(&self, reactor: &mut Reactor, waiter: Id, text: &str) -> Flow {
        let flow = self.output.write(reactor, waiter, text.as_bytes());
        if let Some(screen) = &self.screen
            && self.output.buffered(reactor) > 0
            && screen.borrow_mut().hold()
        {
            let display = self.clone();
            self.output.on_flushed(reactor, move |reactor| display.release(reactor));
        }
        flow
    }

    /// Writes the messages that had to wait, because stdout has written all the text before them.
    fn release(&self, reactor: &mut Reactor) {
        let held = self.screen.as_ref().map(|screen| screen.borrow_mut().release()).unwrap_or_default();
        self.write(reactor, self.output.id(), &held);
    }
}
