//! Shows lines to a person while that person types: the interactive client, and the server's
//! console. Without a terminal, stdout gets the same text unchanged.
//!
//! Invariant: text is written to the terminal in the order in which it was composed, so that no
//! text splits an escape sequence. While stdout has buffered text, messages wait.
//!
//! Read next: `screen.rs`, which composes the text.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::rc::Rc;

use super::diagnostics::{is_ending, set_row_open};
use super::screen::Screen;
use super::{on_signal, route_stderr};
use crate::sys::{discard_input, echoes_newlines, has_input, is_in_background};
use crate::{Flow, Handle, Id, Input, Output, Reactor};

/// Stdin and stdout, as a person sees them.
#[derive(Clone, Debug)]
pub struct Display {
    input: Handle<Input>,
    output: Handle<Output>,
    /// `None` if the program is not interactive.
    screen: Option<Rc<RefCell<Screen>>>,
    /// Whether stdout and stderr are terminals, and probably the same one.
    shares_rows: bool,
}

/// Returns whether stdin and stdout are terminals.
#[must_use]
pub fn is_on_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Display {
    /// Creates a display. If stderr is a terminal, an interactive display also shows the text for
    /// stderr. If `routes_stderr` is set, a display that is not interactive does so, too.
    ///
    /// # Errors
    /// See [`on_signal`].
    pub fn new(
        reactor: &mut Reactor,
        input: Handle<Input>,
        output: Handle<Output>,
        is_interactive: bool,
        routes_stderr: bool,
    ) -> io::Result<Self> {
        let screen = Rc::new(RefCell::new(Screen::new()));
        let display = Display {
            input,
            output,
            screen: is_interactive.then(|| screen.clone()),
            shares_rows: io::stdout().is_terminal() && io::stderr().is_terminal(),
        };
        if is_interactive {
            let display = display.clone();
            on_signal(reactor, libc::SIGCONT, move |reactor| display.resume(reactor))?;
        }
        if io::stderr().is_terminal() && (is_interactive || routes_stderr) {
            route_stderr(Some(Box::new(move |text| screen.borrow_mut().message(text))));
        }
        Ok(display)
    }

    /// Returns whether a person types and reads.
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        self.screen.is_some()
    }

    /// Returns whether there is room for more data. If not, `waiter` is woken when there is room.
    pub fn flow(&self, reactor: &mut Reactor, waiter: Id) -> Flow {
        self.output.flow(reactor, waiter)
    }

    /// Shows data from a server. Returns whether there is room for more, as [`flow`](Self::flow)
    /// does.
    pub fn show_echo(&self, reactor: &mut Reactor, waiter: Id, data: &[u8]) -> Flow {
        match &self.screen {
            None => {
                if let Some(last) = data.last().filter(|_| self.shares_rows) {
                    set_row_open(*last != b'\n');
                }
                self.output.write(reactor, waiter, data)
            }
            Some(screen) => {
                let text = screen.borrow_mut().echo(data);
                self.write(reactor, waiter, &text)
            }
        }
    }

    /// Shows whole lines.
    pub fn show_lines(&self, reactor: &mut Reactor, waiter: Id, lines: &str) {
        match &self.screen {
            None => self.output.write(reactor, waiter, lines.as_bytes()),
            Some(screen) => {
                let text = screen.borrow_mut().insert_above(lines);
                self.write(reactor, waiter, &text)
            }
        };
    }

    /// Records that `typed` was read. If Ctrl-D ended it in the middle of a line, moves the cursor
    /// to a new row. Without an echo, the cursor is still behind the prompt.
    pub fn was_entered(&self, reactor: &mut Reactor, waiter: Id, typed: &[u8]) {
        if let Some(screen) = &self.screen
            && echoes_newlines(&io::stdin())
        {
            screen.borrow_mut().leave_prompt();
            if !typed.ends_with(b"\n") {
                self.write(reactor, waiter, "\n");
            }
        }
    }

    /// Shows the prompt, unless the next line is entered already, or the program is in the
    /// background or ends.
    pub fn prompt(&self, reactor: &mut Reactor) {
        self.show_prompt(reactor, Screen::prompt);
    }

    /// Shows the prompt after the program was stopped and continued. `timeout(1)` also continues the
    /// program that it ends.
    fn resume(&self, reactor: &mut Reactor) {
        if let Some(screen) = &self.screen
            && is_in_background(&io::stdin())
        {
            screen.borrow_mut().forget_prompt(); // the shell uses the terminal
        }
        self.show_prompt(reactor, Screen::prompt_again);
    }

    fn show_prompt(&self, reactor: &mut Reactor, compose: impl FnOnce(&mut Screen) -> String) {
        if let Some(screen) = &self.screen
            && !is_ending()
            && !self.input.has_unreceived(reactor)
            && !has_input(&io::stdin())
            && !is_in_background(&io::stdin())
        {
            let text = compose(&mut screen.borrow_mut());
            self.write(reactor, self.output.id(), &text);
        }
    }

    /// Moves the cursor to an empty row, and calls `f` when everything is written.
    pub fn finish(&self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        if let Some(screen) = &self.screen {
            let text = screen.borrow_mut().finish();
            self.write(reactor, self.output.id(), &text);
        }
        self.output.on_flushed(reactor, f);
    }

    /// Ends the interaction after the loop has stopped. Discards a half-typed line, which is not
    /// meant for the shell. Text after Ctrl-D is left for the shell.
    pub fn close(&self, reactor: &Reactor) {
        route_stderr(None);
        if is_on_terminal() && reactor.get(self.input).is_ok() && !is_in_background(&io::stdin()) {
            discard_input(&io::stdin());
        }
    }

    fn write(&self, reactor: &mut Reactor, waiter: Id, text: &str) -> Flow {
        let flow = self.output.write(reactor, waiter, text.as_bytes());
        if let Some(screen) = &self.screen
            && self.output.buffered(reactor) != Ok(0)
            && screen.borrow_mut().hold()
        {
            let display = self.clone();
            self.output.on_flushed(reactor, move |reactor| display.release(reactor));
        }
        flow
    }

    /// Writes the messages that have waited for stdout. Stdout has now taken all the text before
    /// them.
    fn release(&self, reactor: &mut Reactor) {
        let held = self.screen.as_ref().map(|screen| screen.borrow_mut().release()).unwrap_or_default();
        self.write(reactor, self.output.id(), &held);
    }
}
