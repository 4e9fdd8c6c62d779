//! Exercise 9: read lines from a pipe that others share.
//!
//! `open` gets the reading end of a pipe, which the shell has, too. Make an `Input` that never
//! blocks, and change nothing for the shell. For each event, which is edge-triggered, the loop
//! calls `read_lines` once. Append each line to `lines`, without its newline. At the end of file,
//! text without a newline is a line.
//! The types that you need are in `checks/ex09_stdin.rs`. You may read it.
//!
//!     cargo test --test exercises ex09_stdin -- --ignored

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::checks::ex09_stdin::Lines;

pub struct Input {
    pipe: File,
    /// Text without a newline.
    rest: Vec<u8>,
}

impl Input {
    pub fn open(stdin: &File) -> io::Result<Self> {
        todo!(
            "`/proc/self/fd/` has the name of each open descriptor, and `libc::O_NONBLOCK` is a custom flag"
        )
    }
}

impl Lines for Input {
    /// Returns whether the end of file is reached.
    fn read_lines(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        todo!("read bytes until `WouldBlock` or 0, and cut the lines yourself")
    }
}
