//! What a terminal shows: everything comes in above the row of the cursor.
//!
//! ```text
//!   echo-client: connected to 127.0.0.1:7777
//!   > hello                  what was typed
//!   < hello                  lines of the server, messages and progress come in here ...
//!   > half-typ_              ... and move this row down
//! ```
//!
//! The kernel echoes what is typed and lets a person edit it, see `termios(3)` on canonical mode. The
//! terminal's modes are never changed, so nothing is left to restore, not even after SIGKILL. The price:
//! neither the kernel nor the terminal tells us what is half typed, so where that has wrapped, a line comes
//! in above its last row, and where it fills its row exactly, the next character is drawn over the last.
//!
//! Invariant: the row of the cursor is only written to for the prompt. A server cannot move the cursor:
//! what is not text is shown as `cat -v` shows it.
//!
//! Read next: `display.rs`, which writes what is composed here.

use std::io::{self, IsTerminal};
use std::mem;

use echo_reactor::cli::window_size;

/// The most that is held back for a terminal that takes nothing.
const HELD_LIMIT: usize = 64 << 10;

/// The tabs of a terminal.
const TAB: usize = 8;

#[derive(Default)]
pub struct Screen {
    /// Whether the terminal obeys escape sequences. Otherwise there is no above: lines and prompts follow
    /// each other.
    obeys_escapes: bool,
    /// Whether the prompt is on the row of the cursor.
    has_prompt: bool,
    /// Whether the last line of the server has not ended yet.
    mid_line: bool,
    /// The beginning of a character of the server whose rest has not come yet.
    incomplete: Vec<u8>,
    /// While the output still has bytes to write: the diagnostics that have to wait for it.
    held: Option<String>,
}

impl Screen {
    pub fn new() -> Self {
        Screen { obeys_escapes: obeys_escapes(), ..Screen::default() }
    }

    /// Shows the prompt, in front of whatever was typed before it. Empty: it is there already.
    pub fn prompt(&mut self) -> String {
        match (mem::replace(&mut self.has_prompt, true), self.obeys_escapes) {
            (true, _) => String::new(),
            (false, false) => "> ".into(),
            // Save the cursor, insert two columns, restore the cursor. The kernel counts each of these
            // characters as a column, and needs the count to erase a tab: 10 is as good as 2.
            (false, true) => "\x1b7\r\x1b[@\x1b[@> \x1b8\x1b[2C".into(),
        }
    }

    /// The row of the cursor has no prompt any more: a line was entered, or the shell was there.
    /// Returns whether there was one.
    pub fn leave_prompt(&mut self) -> bool {
        mem::take(&mut self.has_prompt)
    }

    /// Shows bytes of the server. A line that comes in pieces has `< ` once.
    pub fn echo(&mut self, data: &[u8]) -> String {
        let mut bytes = mem::take(&mut self.incomplete);
        bytes.extend_from_slice(data);
        self.incomplete = bytes.split_off(bytes.len() - incomplete_length(&bytes));
        self.lines_of(&bytes)
    }

    /// Shows what is left when no more bytes will come.
    pub fn rest(&mut self) -> String {
        let bytes = mem::take(&mut self.incomplete);
        self.lines_of(&bytes)
    }

    fn lines_of(&mut self, bytes: &[u8]) -> String {
        let mut lines = String::new();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            lines.push_str(if self.mid_line { "  " } else { "< " });
            self.mid_line = !line.ends_with(b"\n");
            push_visible(&mut lines, line.strip_suffix(b"\n").unwrap_or(line));
            lines.push('\n');
        }
        self.above(&lines)
    }

    /// Shows text of our own: lines above the row of the cursor; without a newline, it replaces that row.
    /// Empty: it waits for [`release`](Self::release).
    pub fn message(&mut self, text: String) -> String {
        match &mut self.held {
            _ if !text.ends_with('\n') => text,
            None => self.above(&text),
            Some(held) => {
                if held.len() < HELD_LIMIT {
                    held.push_str(&text);
                }
                String::new()
            }
        }
    }

    /// Holds messages back from now on. Returns whether it did not do so before.
    pub fn hold(&mut self) -> bool {
        let is_new = self.held.is_none();
        self.held.get_or_insert_default();
        is_new
    }

    /// Shows the messages that were held back. The next one need not wait.
    pub fn release(&mut self) -> String {
        let held = self.held.take().unwrap_or_default();
        self.above(&held)
    }

    /// Composes what inserts lines above the row of the cursor. It has no newline, because the kernel
    /// might echo what is being typed after each: its lock is held from one newline to the next.
    fn above(&self, lines: &str) -> String {
        if lines.is_empty() {
            return String::new();
        }
        if !self.obeys_escapes {
            let (before, after) = if self.has_prompt { ("\n", "> ") } else { ("", "") };
            return format!("{before}{lines}{after}");
        }
        let (columns, window_rows) = window();
        let most_rows = window_rows.saturating_sub(1).max(1);
        let mut block = Block { most_rows, ..Block::default() };
        for line in lines.lines() {
            let (mut text, mut rows, mut column) = (String::new(), 1, 0);
            for c in line.chars() {
                let (c, count) = if c == '\t' { (' ', TAB - column % TAB) } else { (c, 1) };
                for _ in 0..count {
                    if column + width(c) > columns {
                        // The terminal wraps by itself, so that a line is copied from it as one.
                        column = 0;
                        rows += 1;
                    }
                    if rows > most_rows {
                        block.add(&mem::take(&mut text), most_rows);
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

/// Rows that are inserted together: as many as fit above the row of the cursor.
#[derive(Default)]
struct Block {
    composed: String,
    text: String,
    rows: usize,
    most_rows: usize,
}

impl Block {
    /// Adds text that fills so many rows.
    fn add(&mut self, text: &str, rows: usize) {
        if self.rows + rows > self.most_rows {
            self.insert();
        }
        if self.rows > 0 {
            self.text.push_str("\x1bE"); // the next row
        }
        self.text.push_str(text);
        self.rows += rows;
    }

    /// Makes room at the bottom, saves the cursor, inserts rows above, writes, and restores the cursor.
    /// For the kernel, this ends in column 10 (see [`Screen::prompt`]), hence the zeros.
    fn insert(&mut self) {
        let (rows, text) = (mem::take(&mut self.rows), mem::take(&mut self.text));
        if rows > 0 {
            let room = "\x1bD".repeat(rows);
            let insert = format!("{room}\x1b[{rows}A\x1b7\r\x1b[{rows}L{text}\r\x1b8\x1b[{rows:07}B");
            self.composed.push_str(&insert);
        }
    }
}

/// The columns and rows of the terminal. Where stdout is none, stderr is.
fn window() -> (usize, usize) {
    if io::stdout().is_terminal() { window_size(&io::stdout()) } else { window_size(&io::stderr()) }
}

/// Whether the terminal obeys escape sequences, as far as its user says.
pub fn obeys_escapes() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// Appends text as `cat -v` shows it. Tabs are left.
fn push_visible(out: &mut String, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\t' {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_caret(out, byte));
            } else {
                out.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_caret(out, byte));
    }
}

fn push_caret(out: &mut String, byte: u8) {
    if byte >= 0x80 {
        out.push_str("M-");
    }
    match byte & 0x7f {
        control @ (..0x20 | 0x7f) => out.extend(['^', char::from(control ^ 0x40)]),
        printable => out.push(char::from(printable)),
    }
}

/// How many bytes at the end may be the beginning of a character.
fn incomplete_length(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_incomplete = str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if is_incomplete { last.len() } else { 0 }
}

/// How many columns a terminal gives to a character: Unicode's East Asian Width, in rough blocks. Where this
/// is too much, a row stays empty; where it is too little, a line would reach the row of the cursor.
fn width(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{231a}'..='\u{23ff}'
        | '\u{25fd}'..='\u{27bf}'
        | '\u{2b1b}'..='\u{2b55}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe10}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{16fe0}'..='\u{1b2ff}'
        | '\u{1d300}'..='\u{1d376}'
        | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3ffff}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_wider_than_it_counts() {
        let mut terminal = avt::Terminal::new(10, 1).unwrap();
        for c in (' '..char::MAX).filter(|c| !c.is_control()) {
            terminal.feed(['\r', c]);
            let columns = terminal.cursor().col;
            // The emulator counts U+17A4, a deprecated Khmer letter, as two letters.
            assert!(columns <= width(c) || c == '\u{17a4}', "{c:?} fills {columns} columns");
        }
    }

    #[test]
    fn characters_are_whole_however_the_bytes_were_cut() {
        let text = "a\u{1b}é€漢🎉\u{85}\n".repeat(2);
        let cut: &[&[u8]] = &[b"\xff\xe2\x82", text.as_bytes(), b"\xf0\x9f\xe2"];
        let bytes = cut.concat();
        let whole = Screen::default().echo(&bytes);
        for size in 1..bytes.len() {
            let mut screen = Screen::default();
            let pieces: String = bytes.chunks(size).map(|piece| screen.echo(piece)).collect();
            let joined = pieces.replace("\n  ", "");
            assert_eq!(joined, whole, "in pieces of {size}");
            assert_eq!(screen.rest(), "  M-b\n");
        }
    }
}
