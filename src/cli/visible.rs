//! How a terminal shows the characters that a server sends.
//!
//! Invariant: the text that is shown has no control character except tabs, so it moves the cursor
//! only to the right. No character is wider than its computed width.
//!
//! Read next: `screen.rs`, which arranges the text in rows.

/// Appends text as `cat -v` shows it. Tabs are kept.
pub(super) fn push_visible(out: &mut String, text: &[u8]) {
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

/// Returns how many bytes at the end may be the beginning of a character.
pub(super) fn incomplete_length(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_incomplete = str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if is_incomplete { last.len() } else { 0 }
}

/// Returns how many columns a character fills: Unicode's East Asian Width, in rough blocks. If the
/// result is too large, a row stays empty. If it were too small, a line would overwrite the
/// cursor's row.
pub(super) fn width(c: char) -> usize {
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
    fn no_character_is_wider_than_its_computed_width() {
        let mut terminal = avt::Terminal::new(10, 1).unwrap();
        for c in (' '..char::MAX).filter(|c| !c.is_control()) {
            terminal.feed(['\r', c]);
            let columns = terminal.cursor().col;
            // The emulator counts U+17A4, a deprecated Khmer letter, as two letters.
            assert!(columns <= width(c) || c == '\u{17a4}', "{c:?} fills {columns} columns");
        }
    }
}
