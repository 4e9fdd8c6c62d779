//! A TCP proxy, on streams: `proxy LISTEN_ADDRESS BACKEND_ADDRESS`.
//!
//! Look at `forward`: it is one direction, and the proxy is two of them. `copy` stops reading while the
//! other side is slow, an end of file becomes an end of file, and a reset stays a reset.

use std::io;
use std::process::ExitCode;

use echo_reactor::cli::run_proxy_example;
use echo_reactor::{
    Address, ConnectOptions, ListenOptions, Reactor, Reader, Writer, copy, start_server, try_join,
};

async fn forward(from: &mut Reader, to: &mut Writer) -> io::Result<()> {
    copy(from, to).await?;
    to.write_eof();
    Ok(())
}

pub(crate) async fn proxy(mut reader: Reader, mut writer: Writer, backend: Vec<Address>) -> io::Result<()> {
    let dialed = writer.handle().open_connection(&backend, &ConnectOptions::default()).await;
    let (mut from_backend, mut to_backend) = dialed.inspect_err(|_| writer.abort())?;
    let there = forward(&mut reader, &mut to_backend);
    let back = forward(&mut from_backend, &mut writer);
    let result = try_join(there, back).await;
    if result.is_err() {
        writer.abort();
        to_backend.abort();
    }
    result.map(drop)
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
