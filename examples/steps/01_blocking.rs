//! Step 1: a blocking echo server.
//!
//! `read` sleeps until the peer has sent something, and `write_all` sleeps until the kernel has
//! taken everything. So a peer that neither sends nor reads makes all other peers wait.
//!
//! Try: `sleep 5 | echo-client & sleep 1; time (echo hello | echo-client)`. The second client waits
//! for four seconds.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept() {
            Ok((stream, _)) => serve(stream),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

fn serve(stream: TcpStream) {
    if let Err(error) = echo(stream) {
        eprintln!("connection: {error}");
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
