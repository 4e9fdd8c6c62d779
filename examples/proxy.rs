//! A TCP proxy, on streams: `proxy LISTEN_ADDRESS BACKEND_ADDRESS`.
//!
//! Look at `forward`: it is one direction, and the proxy is two of them. `copy` stops reading while the
//! other side is slow, an end of file becomes an end of file, and a reset stays a reset.

use std::io;

use echo_reactor::cli::nth_address_argument;
use echo_reactor::{
    Address, ConnectOptions, ListenOptions, Reactor, Reader, Writer, copy, join, start_server,
};

async fn forward(mut from: Reader, mut to: Writer) -> io::Result<()> {
    let result = copy(&mut from, &mut to).await;
    if result.is_ok() {
        to.write_eof();
    } else {
        from.abort();
        to.abort();
    }
    result.map(drop)
}

pub(crate) async fn proxy(reader: Reader, mut writer: Writer, backend: Vec<Address>) -> io::Result<()> {
    let dialed = reader.handle().open_connection(&backend, &ConnectOptions::default()).await;
    let (from_backend, to_backend) = dialed.inspect_err(|_| writer.abort())?;
    let (there, back) = join(forward(reader, to_backend), forward(from_backend, writer)).await;
    there.and(back)
}

fn main() -> io::Result<()> {
    let addresses = nth_address_argument(1)?.to_listen()?;
    let backend = nth_address_argument(2)?.to_connect()?;
    let mut reactor = Reactor::new()?;
    let handler = move |reader, writer| proxy(reader, writer, backend.clone());
    let listener = start_server(&mut reactor, &addresses, &ListenOptions::default(), handler)?;
    println!("listening on {}", listener.addresses(&reactor)?[0]);
    reactor.run()
}
