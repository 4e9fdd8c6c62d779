//! The streams style, on the server's side: a reader and a writer (asyncio: `start_server`).
//!
//! Look at where the state of the conversation is: in the place that the code has come to, as in any
//! program. The compiler makes the state machine of it. The message `exit` ends the conversation. The
//! original looped for ever when a client half-closed, and froze for everybody: a read of no bytes is the
//! end of file, and has to be looked at.

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
