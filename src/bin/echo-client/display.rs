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
    mode: Mode,
}

enum Mode {
    /// Bytes pass as they are.
    Bytes,
    Terminal(Screen),
    /// Bytes are only looked at (`--check`).
    Nothing,
}

impl Display {
    pub fn new(output: Handle<Output>, interactive: bool) -> Self {
        Display { output, mode: if interactive { Mode::Terminal(Screen::Fresh) } else { Mode::Bytes } }
    }

    pub fn nothing(output: Handle<Output>) -> Self {
        Display { output, mode: Mode::Nothing }
    }

    pub fn is_interactive(&self) -> bool {
        matches!(self.mode, Mode::Terminal(_))
    }

    /// Whether there is room for more. If not, `by` is woken when there is.
    pub fn flow(&self, reactor: &mut Reactor, by: Id) -> Flow {
        self.output.flow(reactor, by)
    }

    pub fn prompt(&mut self, reactor: &mut Reactor, by: Id) {
        if let Mode::Terminal(screen) = &mut self.mode {
            *screen = Screen::Prompt;
            self.output.write(reactor, by, b"> ");
        }
    }

    /// A line was typed: the cursor is at the start of the next.
    pub fn line_entered(&mut self, reactor: &mut Reactor, by: Id) {
        if let Mode::Terminal(screen) = &mut self.mode {
            *screen = match *screen {
                Screen::Fresh | Screen::Prompt => Screen::Prompt,
                Screen::Line | Screen::LineAbove => Screen::LineAbove,
            };
            self.output.write(reactor, by, b"> ");
        }
    }

    pub fn show(&mut self, reactor: &mut Reactor, by: Id, data: &[u8]) -> Flow {
        let screen = match &mut self.mode {
            Mode::Bytes => return self.output.write(reactor, by, data),
            Mode::Nothing => return Flow::Open,
            Mode::Terminal(screen) => screen,
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
        if matches!(self.mode, Mode::Terminal(Screen::Prompt | Screen::Line | Screen::LineAbove)) {
            self.output.write(reactor, self.output.id(), b"\n");
        }
        self.output.on_flushed(reactor, f);
    }
}
