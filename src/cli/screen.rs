//! Composes the text for a terminal: new lines are inserted above the cursor's row.
//!
//! ```text
//!   echo-client: connected to 127.0.0.1:7777
//!   > hello                  a line that was typed
//!   < hello                  server lines, messages and progress are inserted here ...
//!   > half-typ_              ... and move this row down
//! ```
//!
//! The kernel echoes typed characters and handles editing (canonical mode, see `termios(3)`). This
//! program never changes the terminal's modes, so there is nothing to restore, not even after
//! SIGKILL. The cost: neither the kernel nor the terminal reports half-typed text. If that text has
//! wrapped, a line is inserted above its last row; at Ctrl-R, the kernel shows all of it again. If
//! the text fills its row exactly, the next character overwrites its last one.
//!
//! Invariant: only the prompt is written on the cursor's row. A server cannot move the cursor,
//! because its control characters are shown as by `cat -v`.
//!
//! Read next: `visible.rs`, how a character is shown; `display.rs`, which writes the text.

use std::io::{self, IsTerminal};
use std::mem;

use super::visible::{incomplete_length, push_visible, width};
use crate::sys::window_size;

/// The maximum size of the messages that are held back, for a terminal that accepts no output.
const MAX_HELD: usize = 64 << 10;

/// The distance between the tab stops of a terminal.
const TAB: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Screen {
    /// Whether the terminal supports escape sequences. If not, no line can be inserted, and lines
    /// and prompts follow each other.
    supports_escapes: bool,
    prompt: Prompt,
    /// Whether the last line from the server is incomplete.
    mid_line: bool,
    /// The first bytes of an incomplete character from the server.
    incomplete: Vec<u8>,
    /// While stdout has buffered text: the messages that wait for it.
    held: Option<String>,
}

/// Whether the prompt is on the cursor's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Prompt {
    #[default]
    Absent,
    /// The prompt follows the next lines. This is for a terminal without escape sequences. There, a
    /// prompt before those lines would stay as an empty row, because the echo of a line arrives
    /// just after the line was entered.
    Due,
    Shown,
    /// There is no further prompt.
    Ended,
}

impl Screen {
    pub fn new() -> Self {
        Screen { supports_escapes: supports_escapes(), ..Screen::default() }
    }

    /// Returns the prompt, which is inserted before typed text. Returns nothing if it is on the
    /// screen already.
    pub fn prompt(&mut self) -> String {
        if self.prompt != Prompt::Absent {
            return String::new();
        }
        self.prompt = Prompt::Shown;
        if self.supports_escapes {
            // Save the cursor, insert two columns, restore the cursor. The kernel counts each of
            // these characters as a column, and needs the count to erase a tab. A count of 10 has
            // the same effect as the true 2, because tab stops are 8 columns apart.
            "\x1b7\r\x1b[@\x1b[@> \x1b8\x1b[2C".into()
        } else {
            "> ".into()
        }
    }

    /// Returns the prompt after the program was stopped and continued. If the shell has noticed,
    /// the cursor is on an empty row. If not, its row has the prompt and half-typed text. So this
    /// writes the prompt at the start of the row, even over itself. Then two columns to the left
    /// and two to the right move the cursor behind the prompt, unless it is there already. If
    /// half-typed text has wrapped, two columns of its last row are overwritten. The zero is for
    /// the kernel's count.
    pub fn prompt_again(&mut self) -> String {
        if self.prompt == Prompt::Shown && self.supports_escapes {
            return "\x1b7\r> \x1b8\x1b[02D\x1b[2C".into();
        }
        self.forget_prompt();
        self.prompt()
    }

    /// Records that a line was entered, so that the cursor's row has no prompt.
    pub fn leave_prompt(&mut self) {
        self.prompt = if self.supports_escapes { Prompt::Absent } else { Prompt::Due };
    }

    /// Records that the shell used the terminal, so that the cursor's row has no prompt.
    pub fn forget_prompt(&mut self) {
        if self.prompt != Prompt::Ended {
            self.prompt = Prompt::Absent;
        }
    }

    /// Returns the text that shows data from the server. A line that arrives in pieces gets `< `
    /// once.
    pub fn echo(&mut self, data: &[u8]) -> String {
        let mut bytes = mem::take(&mut self.incomplete);
        bytes.extend_from_slice(data);
        self.incomplete = bytes.split_off(bytes.len() - incomplete_length(&bytes));
        self.lines_of(&bytes)
    }

    /// Returns the text that shows everything that is left, and moves the cursor to an empty row.
    /// No prompt follows, not even after the program was stopped and continued.
    pub fn finish(&mut self) -> String {
        let end = if mem::replace(&mut self.prompt, Prompt::Ended) == Prompt::Shown { "\n" } else { "" };
        let bytes = mem::take(&mut self.incomplete);
        self.release() + &self.lines_of(&bytes) + end
    }

    fn lines_of(&mut self, bytes: &[u8]) -> String {
        let mut lines = String::new();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            lines.push_str(if self.mid_line { "  " } else { "< " });
            self.mid_line = !line.ends_with(b"\n");
            push_visible(&mut lines, line.strip_suffix(b"\n").unwrap_or(line));
            lines.push('\n');
        }
        self.insert_above(&lines)
    }

    /// Returns the text that shows a message. Text with a newline is inserted above the cursor's
    /// row, and other text replaces that row. Returns nothing if the message waits for
    /// [`release`](Self::release).
    pub fn message(&mut self, text: String) -> String {
        match &mut self.held {
            _ if !text.ends_with('\n') => text,
            None => self.insert_above(&text),
            Some(held) => {
                if held.len() < MAX_HELD {
                    held.push_str(&text);
                }
                String::new()
            }
        }
    }

    /// Holds messages back from now on. Returns whether messages were not held back before.
    pub fn hold(&mut self) -> bool {
        let is_new = self.held.is_none();
        self.held.get_or_insert_default();
        is_new
    }

    /// Returns the text that shows the messages that were held back. Later messages are not held
    /// back.
    pub fn release(&mut self) -> String {
        let held = self.held.take().unwrap_or_default();
        self.insert_above(&held)
    }

    /// Returns the text that inserts lines above the cursor's row. It contains no newline: the
    /// kernel holds its lock only from one newline to the next, so it could echo a typed character
    /// after each.
    pub fn insert_above(&mut self, lines: &str) -> String {
        if lines.is_empty() {
            return String::new();
        }
        if !self.supports_escapes {
            let (before, after) = match self.prompt {
                Prompt::Absent | Prompt::Ended => ("", ""),
                Prompt::Due => ("", "> "),
                Prompt::Shown => ("\n", "> "),
            };
            if self.prompt == Prompt::Due {
                self.prompt = Prompt::Shown;
            }
            return format!("{before}{lines}{after}");
        }
        let (columns, window_rows) = window();
        let max_rows = window_rows.saturating_sub(1).max(1);
        let mut block = Block { max_rows, ..Block::default() };
        for line in lines.lines() {
            let (mut text, mut rows, mut column) = (String::new(), 1, 0);
            for c in line.chars() {
                let (c, count) = if c == '\t' { (' ', TAB - column % TAB) } else { (c, 1) };
                for _ in 0..count {
                    if column + width(c) > columns {
                        // The terminal wraps the line itself, so that copying it gives one line.
                        column = 0;
                        rows += 1;
                    }
                    if rows > max_rows {
                        block.add(&mem::take(&mut text), max_rows);
                        rows = 1;
                    }
                    text.push(c);
                    column += width(c);
                }
            }
            block.add(&text, rows);
        }
        block.insert();
        block.composed
    }
}

/// Rows that are inserted together: as many as fit above the cursor's row.
#[derive(Default)]
struct Block {
    composed: String,
    text: String,
    rows: usize,
    max_rows: usize,
}

impl Block {
    /// Adds text that fills `rows` rows.
    fn add(&mut self, text: &str, rows: usize) {
        if self.rows + rows > self.max_rows {
            self.insert();
        }
        if self.rows > 0 {
            self.text.push_str("\x1bE"); // the next row
        }
        self.text.push_str(text);
        self.rows += rows;
    }

    /// Inserts the rows, of which there is at least one: scrolls to make room at the bottom, saves
    /// the cursor, inserts rows above, writes, and restores the cursor. The zeros make the kernel's
    /// column count end at 10 (see [`Screen::prompt`]).
    fn insert(&mut self) {
        let (rows, text) = (mem::take(&mut self.rows), mem::take(&mut self.text));
        let room = "\x1bD".repeat(rows);
        let insert = format!("{room}\x1b[{rows}A\x1b7\r\x1b[{rows}L{text}\r\x1b8\x1b[{rows:07}B");
        self.composed.push_str(&insert);
    }
}

/// Returns the columns and rows of the terminal, which is stdout or else stderr.
fn window() -> (usize, usize) {
    if io::stdout().is_terminal() { window_size(&io::stdout()) } else { window_size(&io::stderr()) }
}

/// Returns whether the terminal supports escape sequences, according to `TERM`.
#[must_use]
pub fn supports_escapes() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_is_written_over_itself_only_if_it_is_shown_and_the_terminal_supports_that() {
        for supports_escapes in [true, false] {
            let mut screen = Screen { supports_escapes, ..Screen::default() };
            let prompt = screen.prompt();
            assert_ne!(prompt, "");
            let again = screen.prompt_again();
            assert_eq!(again == prompt, !supports_escapes, "{again:?}");
            screen.forget_prompt(); // the shell uses the terminal
            assert_eq!(screen.prompt_again(), prompt);
        }
    }

    #[test]
    fn split_characters_are_shown_whole() {
        let text = "a\u{1b}é€漢🎉\u{85}\n".repeat(2);
        let cut: &[&[u8]] = &[b"\xff\xe2\x82", text.as_bytes(), b"\xf0\x9f\xe2"];
        let bytes = cut.concat();
        let whole = Screen::default().echo(&bytes);
        for size in 1..bytes.len() {
            let mut screen = Screen::default();
            let pieces: String = bytes.chunks(size).map(|piece| screen.echo(piece)).collect();
            let joined = pieces.replace("\n  ", "");
            assert_eq!(joined, whole, "in pieces of {size}");
            assert_eq!(screen.finish(), "  M-b\n");
        }
    }
}
