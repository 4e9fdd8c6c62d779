//! A TCP proxy in the streams style: `proxy LISTEN_ADDR BACKEND_ADDR`.
//!
//! Look at `forward`: it copies one direction, and the proxy runs two of them. `copy` stops reading
//! while the other side is slow. An end of file and a reset are passed on to the other side.

use std::io;
use std::process::ExitCode;

use echo_reactor::cli::run_proxy_example;
use echo_reactor::{
    Address, ConnectOptions, CopyError, ListenOptions, Reactor, Reader, Writer, copy, join, start_server,
};

/// Copies one direction. If it fails, the other direction continues, so that bytes on their way
/// still arrive.
async fn forward(mut from: Reader, to: &mut Writer) -> io::Result<()> {
    match copy(&mut from, to).await {
        Ok(_) => to.write_eof(),
        Err(CopyError::Write(error)) => return Err(error),
        Err(CopyError::Read(error)) => {
            to.abort();
            return Err(error);
        }
    }
    Ok(())
}

pub(crate) async fn proxy(reader: Reader, mut writer: Writer, backend: Vec<Address>) -> io::Result<()> {
    let connected = writer.handle().open_connection(&backend, &ConnectOptions::default()).await;
    let (from_backend, mut to_backend) = connected.inspect_err(|_| writer.abort())?;
    let there = forward(reader, &mut to_backend);
    let (there, back) = join(there, forward(from_backend, &mut writer)).await;
    there.and(back)
}

fn main() -> ExitCode {
    run_proxy_example(|[listen, backend]| {
        let (addresses, backend) = (listen.to_listen()?, backend.to_connect()?);
        let mut reactor = Reactor::new()?;
        let handler = move |reader, writer| proxy(reader, writer, backend.clone());
        let listener = start_server(&mut reactor, &addresses, &ListenOptions::default(), handler)?;
        println!("listening on {}", listener.addresses(&reactor)?[0]);
        reactor.run()
    })
}
