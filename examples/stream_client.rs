//! A client in the streams style (asyncio: `open_connection`).
//!
//! Look at `race`: the client waits for the server and for a typed line at the same time. When one
//! of them is first, nothing of the other is lost.

use std::io;
use std::process::ExitCode;
use std::task::Poll;

use echo_reactor::cli::run_example;
use echo_reactor::{
    Address, Chunk, ConnectOptions, Either, Flow, Framing, Handle, Input, LoopHandle, Mailbox, Output,
    Reactor, race,
};

async fn talk(
    handle: &LoopHandle,
    addresses: &[Address],
    lines: Handle<Mailbox<Chunk>>,
    stdout: Handle<Output>,
) -> io::Result<()> {
    let (mut reader, mut writer) = handle.open_connection(addresses, &ConnectOptions::default()).await?;
    let mut buffer = vec![0; 65536];
    let mut stdin_is_open = true;
    loop {
        let next =
            async { if stdin_is_open { handle.recv(lines).await } else { std::future::pending().await } };
        match race(reader.read(&mut buffer), next).await {
            Either::First(count) => match count? {
                0 => return Ok(()),
                count => print(handle, stdout, buffer[..count].to_vec()).await,
            },
            Either::Second(Some(line)) => writer.write_all(&line?).await?,
            Either::Second(None) => {
                stdin_is_open = false;
                writer.write_eof();
            }
        }
    }
}

/// Writes to stdout, and waits while it is full.
async fn print(handle: &LoopHandle, stdout: Handle<Output>, bytes: Vec<u8>) {
    handle.call(move |reactor| stdout.write(reactor, stdout.id(), &bytes)).await;
    let has_room = move |reactor: &mut Reactor, id| match stdout.flow(reactor, id) {
        Flow::Full => Poll::Pending,
        Flow::Open | Flow::Closed => Poll::Ready(()),
    };
    handle.poll_fn(has_room).await;
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let lines = Mailbox::new(&mut reactor, 16);
        Input::open(&mut reactor, &io::stdin(), Framing::Lines, lines)?;
        let stdout = Output::open(&mut reactor, &io::stdout(), |reactor, _| reactor.stop())?;
        let (handle, addresses) = (reactor.handle()?, address.to_connect()?);
        let result =
            reactor.run_until_complete(async move { talk(&handle, &addresses, lines, stdout).await })?;
        stdout.on_flushed(&mut reactor, Reactor::stop);
        reactor.run()?;
        result
    })
}
