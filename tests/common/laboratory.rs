//! The laboratory (`examples/lab`), and a plain HTTP client for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use super::{Lines, PATIENCE, Process, connect, eventually, program};

pub struct Lab {
    pub process: Process,
    /// Its host and port.
    pub host: String,
    /// The address of the observed server.
    pub server: String,
}

impl Lab {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> Self {
        let programs = PathBuf::from(env!("CARGO_BIN_EXE_echo-server"));
        let path = programs.parent().unwrap().join("examples/lab");
        assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
        let mut command = program(path);
        command.arg(address).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        let lines = Lines::of(process.child.stdout.take().unwrap());
        let host = lines.next().rsplit_once("http://").unwrap().1.trim_end_matches('/').to_owned();
        let server = lines.next().split_once(" is at ").unwrap().1.split_once(": ").unwrap().0.to_owned();
        Lab { process, host, server }
    }

    pub fn connect(&self) -> TcpStream {
        connect(&self.host)
    }

    /// Sends `bytes` on a connection of its own, and returns all that comes back.
    pub fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(bytes); // a refused request may be cut off
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// Sends a request with these header lines. Returns the status and the body.
    pub fn request(&self, first: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let answer = self.send(
            format!(
                "{first} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no answer to {first}: {answer}")), body.into())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.request(&format!("GET {path}"), &format!("Host: {}\r\n", self.host), "")
    }

    /// Sends a command, such as `{"do": "run"}`. Returns the status and the body.
    pub fn try_command(&self, command: &str) -> (u16, String) {
        let own = &self.host;
        self.request("POST /do", &format!("Host: {own}\r\nOrigin: http://{own}\r\n"), command)
    }

    #[track_caller]
    pub fn command(&self, command: &str) {
        assert_eq!(self.try_command(command), (200, "{}".into()), "{command}");
    }

    /// The state of the observed loop, and of the site.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.get("/state").1).unwrap()
    }

    /// Waits for a state. Returns it.
    #[track_caller]
    pub fn state_with(&self, what: &str, mut condition: impl FnMut(&Value) -> bool) -> Value {
        let mut state = Value::Null;
        eventually(what, || {
            state = self.state();
            condition(&state)
        });
        state
    }

    /// The sentences of the log.
    pub fn log(state: &Value) -> String {
        let entries = state["loop"]["log"].as_array().unwrap();
        entries.iter().map(|entry| format!("{}\n", entry[2].as_str().unwrap())).collect()
    }
}
