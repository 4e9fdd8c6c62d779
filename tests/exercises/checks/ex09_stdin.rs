//! A loop that reads lines from a pipe, which it shares with the shell.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::judge::{Verdict, doing, ensure};

/// The reading end of a pipe.
pub trait Lines: Sized {
    /// Reads what is there, and appends the lines that are complete. Returns whether the end is
    /// reached.
    fn read_lines(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<bool>;
}

struct Loop<L> {
    input: L,
    keyboard: Option<io::PipeWriter>,
}

pub fn check<L: Lines>(open: fn(&File) -> io::Result<L>) -> Verdict {
    let (stdin, keyboard) = io::pipe().unwrap();
    let stdin = File::from(std::os::fd::OwnedFd::from(stdin));
    doing("in `open`");
    let hint = "the number in `/proc/self/fd/` is `stdin.as_raw_fd()`. 0 is the stdin of this test";
    let before = descriptors_of(&stdin);
    let input = match open(&stdin) {
        Ok(input) => input,
        Err(error) => return Err(format!("`open` failed: {error}: {hint}").into()),
    };
    ensure!(descriptors_of(&stdin) > before, "`open` has opened something else than the pipe: {hint}");
    let flags = fcntl_getfl(stdin.as_fd()).unwrap();
    ensure!(
        !flags.contains(OFlags::NONBLOCK),
        "the shell's stdin is non-blocking now: `O_NONBLOCK` is a flag of the open file description, which \
         `try_clone` shares"
    );
    let mut all = Loop { input, keyboard: Some(keyboard) };
    doing("when a line had come and the pipe was empty. Does `read` wait for more?");
    all.type_text(b"one\n", &["one"])?;
    doing("when text had come and the pipe was empty");
    all.type_text(b"two\nthree\nfour\n", &["two", "three", "four"])?;
    all.type_text(b"fi", &[])?;
    all.type_text(b"ve\nsi", &["five"])?;
    all.type_text("x \u{20ac}".as_bytes().split_at(3).0, &[])?;
    all.type_text("\u{20ac}\n".as_bytes().split_at(1).1, &["six \u{20ac}"])?;
    all.type_text(b"\n", &[""])?;
    let long = "x".repeat(20_000);
    all.type_text(format!("{long}\n").as_bytes(), &[&long])?;
    all.type_text(b"last", &[])?;
    doing("at the end of file");
    all.keyboard = None;
    all.expect("the end of file", &["last"], true)?;

    let (stdin, mut keyboard) = io::pipe().unwrap();
    let stdin = File::from(std::os::fd::OwnedFd::from(stdin));
    keyboard.write_all(b"line\n").unwrap();
    drop(keyboard);
    let mut all = Loop { input: open(&stdin).unwrap(), keyboard: None };
    all.expect("`line\\n` and the end of file", &["line"], true)
}

/// How many descriptors of this process are for the same pipe.
fn descriptors_of(pipe: &File) -> usize {
    let name = |path| fs::read_link(path).ok();
    let pipe = name(format!("/proc/self/fd/{}", pipe.as_raw_fd()).into());
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter(|entry| entry.as_ref().is_ok_and(|entry| name(entry.path()) == pipe)).count()
}

impl<L: Lines> Loop<L> {
    fn type_text(&mut self, text: &[u8], expected: &[&str]) -> Verdict {
        self.keyboard.as_ref().unwrap().write_all(text).unwrap();
        let text = if text.len() > 100 { b"a line of 20,000 bytes" } else { text };
        self.expect(&format!("`{}`", text.escape_ascii()), expected, false)
    }

    /// Calls `read_lines` once, as for an event.
    fn expect(&mut self, what: &str, expected: &[&str], at_end: bool) -> Verdict {
        let mut lines = Vec::new();
        let result = self.input.read_lines(&mut lines);
        let show = |lines: Vec<String>| {
            let lines =
                lines.into_iter().map(|line| if line.len() > 100 { "a long one".to_owned() } else { line });
            format!("{:?}", lines.collect::<Vec<_>>())
        };
        let lines = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
        let result = match result {
            Ok(is_end) => is_end,
            Err(error) => return Err(format!("after {what}, `read_lines` failed: {error}").into()),
        };
        let (missing, surplus) = (lines.len() < expected.len(), lines.len() > expected.len());
        let hint = match (missing, at_end) {
            (true, true) => ": the last line may have no newline",
            (true, false) => ": no event comes for lines that were read and not returned",
            _ if surplus && at_end => ": nothing is left after the last newline, so there is no further line",
            _ if surplus => ": text without a newline is not a line yet",
            _ => ": a line is the bytes before its newline, whatever pieces they came in",
        };
        ensure!(
            lines == expected,
            "after {what}, the lines are {}, not {}{hint}",
            show(lines),
            show(expected)
        );
        let hint = if at_end {
            "the end came together with bytes, and no second event comes for it, so read until 0"
        } else {
            "`true` is for the end only"
        };
        ensure!(result == at_end, "after {what}, `read_lines` returned {result}: {hint}");
        Ok(())
    }
}
