//! A server in the streams style: an `async fn` with a reader and a writer (asyncio:
//! `start_server`).
//!
//! Look for the state machine: you do not write it, because the compiler makes one from the `async
//! fn`. A message `exit` ends the connection. A read of 0 bytes is the end of file. A loop that
//! ignores the end of file never ends, and blocks every other connection.

use std::io;
use std::process::ExitCode;

use echo_reactor::cli::run_example;
use echo_reactor::{ListenOptions, Reactor, Reader, Writer, start_server};

async fn echo(mut reader: Reader, mut writer: Writer) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            count if buffer[..count].trim_ascii() == b"exit" => return Ok(()),
            count => writer.write_all(&buffer[..count]).await?,
        }
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let listener = start_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), echo)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
