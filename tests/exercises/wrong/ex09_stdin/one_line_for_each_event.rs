//! Mistake: a buffered reader has read all lines, and `read_until` is called once.
//! Verdict: the lines are ["two"], not ["two", "three", "four"]: no event comes for lines that were read

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::checks::ex09_stdin::Lines;

pub struct Input {
    pipe: BufReader<File>,
    rest: Vec<u8>,
}

impl Input {
    pub fn open(stdin: &File) -> io::Result<Self> {
        let name = format!("/proc/self/fd/{}", stdin.as_raw_fd());
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(name)?;
        Ok(Input { pipe: BufReader::new(pipe), rest: Vec::new() })
    }
}

impl Lines for Input {
    fn read_lines(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        match self.pipe.read_until(b'\n', &mut self.rest) {
            Ok(0) => return Ok(true),
            Ok(_) => {
                self.rest.pop();
                lines.push(std::mem::take(&mut self.rest));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(false)
    }
}
