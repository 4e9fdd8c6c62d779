//! The same key-value server in the streams style. Each line is a request: `set KEY VALUE`,
//! `get KEY` or `del KEY`.
//!
//! Look at `serve`: it is only a loop over lines, each with a timeout. The store is an
//! `Rc<RefCell>`, which is safe because it is never borrowed across an `await`.

mod kv_store;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use echo_reactor::cli::run_example;
use echo_reactor::{Elapsed, ListenOptions, Reactor, Reader, Writer, start_server};

use kv_store::{MAX_LINE_LENGTH, Store, answer};

const TIMEOUT: Duration = Duration::from_secs(30);

async fn serve(mut reader: Reader, mut writer: Writer, store: Store) -> io::Result<()> {
    let handle = reader.handle();
    loop {
        let line = match handle.timeout(TIMEOUT, reader.read_line(MAX_LINE_LENGTH)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return writer.write_all(b"error: the line is too long\n").await;
            }
            Ok(Ok(None)) | Err(Elapsed) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        };
        writer.write_all(answer(&store, &line).as_bytes()).await?;
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let store = Store::default();
        let handler = move |reader, writer| serve(reader, writer, store.clone());
        let listener = start_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), handler)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
