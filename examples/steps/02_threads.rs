//! Step 2: a thread for each connection.
//!
//! The code of a connection is the same as in step 1. Now the kernel's scheduler switches between
//! the peers. Each connection costs a thread, and connections can only share data under a lock.
//!
//! Try: `sleep 5 | echo-client & grep Threads /proc/$(pgrep step_02)/status`, several times.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = thread::Builder::new().spawn(|| serve(stream)) {
                    eprintln!("thread: {error}");
                }
            }
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
