//! The streams style, on the server's side: a reader and a writer (asyncio: `start_server`).
//!
//! Look at where the state of the conversation is: in the place that the code has come to, as in any
//! program. The compiler makes the state machine of it. The word `exit` on a line of its own ends the
//! conversation. The original looped for ever when a client half-closed, and froze for everybody; here
//! the end of file is the `None` of `read_line`.

use std::io;

use echo_reactor::cli::address_argument;
use echo_reactor::{Listener, Reactor, Reader, Serve, Writer, start_server};

const LONGEST_LINE: usize = 1 << 20;

async fn echo(mut reader: Reader, mut writer: Writer) -> io::Result<()> {
    while let Some(line) = reader.read_line(LONGEST_LINE).await? {
        if line.trim_ascii() == b"exit" {
            break;
        }
        writer.write_all(&line).await?;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let addresses = address_argument()?.to_listen()?;
    let mut reactor = Reactor::new()?;
    let listener = start_server(&mut reactor, &addresses, &Serve::default(), echo)?;
    println!("listening on {}", Listener::addresses(&mut reactor, listener)[0]);
    reactor.run()
}
