//! What came back, on stdout: as it is, or for a person at a terminal.
//!
//! ```text
//!   > hello            what is typed, behind the prompt
//!   < hello            what comes back, in place of the prompt, which moves down
//!   > _
//! ```
//!
//! Invariant: the prompt is on the screen exactly while the last line of it is ours to type in. A line
//! that comes in pieces is begun once; its pieces are shown as they come.

use echo_reactor::{Flow, Handle, Id, Output, Reactor};

/// To the first column, and clear what is there: the prompt gives way.
const ERASE: &str = "\r\x1b[K";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    /// Nothing is shown yet.
    Fresh,
    /// The prompt waits for a line.
    Prompt,
    /// A line from the server is shown as far as it came.
    Line,
    /// The same, but a line was typed meanwhile: the prompt is below it.
    LineAbove,
}

pub struct Display {
    output: Handle<Output>,
    /// `None`: no terminal; bytes pass as they are.
    screen: Option<Screen>,
}

impl Display {
    pub fn new(output: Handle<Output>, interactive: bool) -> Self {
        Display { output, screen: interactive.then_some(Screen::Fresh) }
    }

    pub fn is_interactive(&self) -> bool {
        self.screen.is_some()
    }

    /// Whether there is room for more. If not, `by` is woken when there is.
    pub fn flow(&self, reactor: &mut Reactor, by: Id) -> Flow {
        self.output.flow(reactor, by)
    }

    pub fn prompt(&mut self, reactor: &mut Reactor, by: Id) {
        if let Some(screen) = &mut self.screen {
            *screen = Screen::Prompt;
            self.output.write(reactor, by, b"> ");
        }
    }

    /// A line was typed: the cursor is at the start of the next.
    pub fn line_entered(&mut self, reactor: &mut Reactor, by: Id) {
        if let Some(screen) = &mut self.screen {
            *screen = match *screen {
                Screen::Fresh | Screen::Prompt => Screen::Prompt,
                Screen::Line | Screen::LineAbove => Screen::LineAbove,
            };
            self.output.write(reactor, by, b"> ");
        }
    }

    pub fn show(&mut self, reactor: &mut Reactor, by: Id, data: &[u8]) -> Flow {
        let Some(screen) = &mut self.screen else {
            return self.output.write(reactor, by, data);
        };
        let mut shown = Vec::with_capacity(data.len() + 16);
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            match *screen {
                Screen::Line => {}
                Screen::LineAbove => shown.extend_from_slice(ERASE.as_bytes()),
                Screen::Prompt => shown.extend_from_slice(format!("{ERASE}< ").as_bytes()),
                Screen::Fresh => shown.extend_from_slice(b"< "),
            }
            shown.extend_from_slice(piece);
            *screen = if piece.ends_with(b"\n") { Screen::Fresh } else { Screen::Line };
        }
        if *screen == Screen::Fresh {
            *screen = Screen::Prompt;
            shown.extend_from_slice(b"> ");
        }
        self.output.write(reactor, by, &shown)
    }

    /// Calls `f` when all is written. A terminal's cursor is left on a line of its own.
    pub fn finish(&mut self, reactor: &mut Reactor, f: impl FnOnce(&mut Reactor) + 'static) {
        if matches!(self.screen, Some(Screen::Prompt | Screen::Line | Screen::LineAbove)) {
            self.output.write(reactor, self.output.id(), b"\n");
        }
        self.output.when_written(reactor, f);
    }
}
