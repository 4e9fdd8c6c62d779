//! The streams style, on the client's side (asyncio: `open_connection`).
//!
//! Look at `race`: an answer and a line typed are waited for at once, and neither is lost when the other
//! comes first. The original asked for input in the middle of a coroutine, which stopped the world.

use std::io;
use std::process::{ExitCode, exit};

use echo_reactor::cli::run_example;
use echo_reactor::{
    Chunk, ConnectOptions, Flow, Framing, Handle, Input, Loop, Mailbox, Output, Reactor, Reader, Winner,
    Writer, open_connection, race,
};

async fn talk(
    reader: &mut Reader,
    writer: &mut Writer,
    lines: Handle<Mailbox<Chunk>>,
    stdout: Handle<Output>,
) -> io::Result<()> {
    let here = reader.running_loop();
    let mut inbox = here.inbox(lines);
    let mut buffer = vec![0; 65536];
    let mut typing = true;
    loop {
        let next = async { if typing { inbox.take().await } else { std::future::pending().await } };
        match race(reader.read(&mut buffer), next).await {
            Winner::First(count) => match count? {
                0 => return Ok(()),
                count => show(&here, stdout, buffer[..count].to_vec()).await,
            },
            Winner::Second(Some(line)) => writer.write_all(&line?).await?,
            Winner::Second(None) => {
                typing = false;
                writer.write_eof();
            }
        }
    }
}

/// Writes on stdout, and waits while it is full.
async fn show(here: &Loop, stdout: Handle<Output>, bytes: Vec<u8>) {
    let mut flow = here.call(move |reactor, id| stdout.write(reactor, id, &bytes)).await;
    while flow == Flow::Full {
        here.woken().await;
        flow = here.call(move |reactor, id| stdout.flow(reactor, id)).await;
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let lines = Mailbox::new(&mut reactor, 16);
        Input::open(&mut reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(&mut reactor, &io::stdout(), |reactor, _| reactor.stop())?;
        open_connection(
            &mut reactor,
            &address.to_connect()?,
            &ConnectOptions::default(),
            move |mut reader, mut writer| async move {
                let result = talk(&mut reader, &mut writer, lines, stdout).await;
                let status = i32::from(result.is_err());
                if let Err(error) = result {
                    eprintln!("{error}");
                }
                let here = reader.running_loop();
                here.call(move |reactor, _| stdout.on_flushed(reactor, move |_| exit(status))).await;
                Ok(())
            },
        )?;
        reactor.run()
    })
}
