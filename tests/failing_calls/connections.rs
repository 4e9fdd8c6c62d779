//! A server and a client, in two styles, and their peers.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use echo_reactor::{
    Address, CloseReason, ConnectOptions, ConnectionLost, ListenOptions, Protocol, Reactor, Transport, copy,
    create_connection, create_server, start_server,
};

use crate::calls::spared;
use crate::common::{Scratch, connect_unix};
use crate::scenarios::{
    DATA, DATA_SIZE, Ending, PAUSE, PIECE, Scenario, SharedLog, Stop, drive, read_available,
};

/// The other end of a connection. It sends the data in pieces, and then ends its side.
struct Peer {
    stream: UnixStream, // what it uses is the same for TCP
    sent: usize,
    arrived: Vec<u8>,
    has_ended: bool,
}

impl Peer {
    fn new(stream: impl Into<OwnedFd>) -> Self {
        let stream = UnixStream::from(stream.into());
        stream.set_nonblocking(true).unwrap();
        let _ = rustix::net::sockopt::set_tcp_nodelay(&stream, true); // a Unix socket needs none
        Peer { stream, sent: 0, arrived: Vec::new(), has_ended: false }
    }

    fn read(&mut self) {
        self.has_ended |= read_available(&mut self.stream, &mut self.arrived);
    }

    /// Goes on if our side has received all that was sent. So only the last piece causes an event.
    fn send(&mut self, received: usize) {
        if received == self.sent && self.sent < DATA_SIZE {
            match self.stream.write(&DATA[self.sent..DATA_SIZE.min(self.sent + PIECE)]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.has_ended = true,
            }
        } else if received == DATA_SIZE {
            let _ = self.stream.shutdown(Shutdown::Write); // has an effect once
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Protocol,
    Streams,
}

/// A server echoes; a client sends the data and ends its side.
struct Recorder {
    log: SharedLog,
    is_client: bool,
}

impl Protocol for Recorder {
    fn connection_made(&mut self, transport: &mut Transport) {
        if self.is_client {
            DATA.chunks(PIECE).for_each(|piece| _ = transport.write(piece));
            transport.write_eof();
        }
    }
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.log.borrow_mut().received.extend_from_slice(data);
        if !self.is_client {
            transport.write(data);
        }
    }
    fn connection_lost(&mut self, _: &mut Reactor, lost: ConnectionLost) {
        self.log.borrow_mut().ends.push(match lost.reason {
            CloseReason::Closed => None,
            CloseReason::Failed(error) => Some(error),
            CloseReason::Unreachable(error) => Some(error.into()),
            other => Some(io::Error::other(other.to_string())),
        });
    }
}

/// A server with one peer.
pub fn serve(scenario: &Scenario, scratch: &Scratch, style: Style) -> Result<Ending, Stop> {
    let mut reactor = Reactor::new()?;
    let log = SharedLog::default();
    let recorder = log.clone();
    let socket = Address::Unix(scratch.path("socket"));
    let addresses = [if scenario.is_tcp { "127.0.0.1:0".parse().unwrap() } else { socket }];
    let listener = match style {
        Style::Protocol => {
            let new = move || Recorder { log: recorder.clone(), is_client: false };
            create_server(&mut reactor, &addresses, &ListenOptions::default(), new)?
        }
        Style::Streams => start_server(
            &mut reactor,
            &addresses,
            &ListenOptions::default(),
            move |mut reader, mut writer| {
                let log = recorder.clone();
                async move {
                    let copied = copy(&mut reader, &mut writer).await;
                    log.borrow_mut()
                        .received
                        .extend_from_slice(&DATA[..*copied.as_ref().unwrap_or(&0) as usize]);
                    writer.write_eof();
                    let flushed = writer.flush().await;
                    let result = copied.map_err(io::Error::from).and(flushed);
                    log.borrow_mut().ends.push(result.err());
                    Ok(())
                }
            },
        )?,
    };
    let stopped = log.clone();
    listener.on_stopped(&mut reactor, move |_| stopped.borrow_mut().listener_stopped = true).unwrap();
    let mut peer = spared(|| match &listener.addresses(&reactor).unwrap()[0] {
        Address::Tcp(address) => Peer::new(TcpStream::connect(address).unwrap()),
        _ => Peer::new(connect_unix(&scratch.path("socket"))),
    });
    drive(&mut reactor, PAUSE, |reactor| {
        spared(|| {
            peer.read();
            peer.send(peer.arrived.len()); // the echo
        });
        let stats = listener.stats(reactor).unwrap();
        if stats.accepted == 0 {
            reactor.set_now(reactor.now() + Duration::from_millis(250)); // it may wait to try again
        }
        peer.has_ended && (stats.accepted == 0 || stats.open == 0 && !log.borrow().ends.is_empty())
    })?;
    let stats = listener.stats(&reactor).unwrap();
    drop(reactor);
    spared(|| drop(peer.stream));
    let log = log.borrow();
    match stats.accepted {
        0 if log.listener_stopped => Ok(Ending::Stopped),
        0 if stats.refused > 0 => Ok(Ending::Refused),
        _ => log.judge(&peer.arrived),
    }
}

/// A client with a peer that listens.
pub fn connect(scenario: &Scenario, scratch: &Scratch, style: Style) -> Result<Ending, Stop> {
    enum Listener {
        Tcp(TcpListener),
        Unix(UnixListener),
    }
    let (address, listener) = spared(|| {
        if scenario.is_tcp {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            (Address::Tcp(listener.local_addr().unwrap()), Listener::Tcp(listener))
        } else {
            let listener = UnixListener::bind(scratch.path("socket")).unwrap();
            listener.set_nonblocking(true).unwrap();
            (Address::Unix(scratch.path("socket")), Listener::Unix(listener))
        }
    });
    let accept = || match &listener {
        Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Peer::new(stream)),
        Listener::Unix(listener) => listener.accept().map(|(stream, _)| Peer::new(stream)),
    };
    let mut reactor = Reactor::new()?;
    let (log, options) = (SharedLog::default(), ConnectOptions::default());
    match style {
        Style::Protocol => {
            let recorder = Recorder { log: log.clone(), is_client: true };
            create_connection(&mut reactor, &[address], &options, recorder);
        }
        Style::Streams => {
            let (handle, log) = (reactor.handle()?, log.clone());
            let transfer = {
                let (handle, log) = (handle.clone(), log.clone());
                async move {
                    let (mut reader, mut writer) = handle.open_connection(&[address], &options).await?;
                    for piece in DATA.chunks(PIECE) {
                        writer.write_all(piece).await?;
                        writer.flush().await?;
                    }
                    writer.write_eof();
                    let mut buffer = [0; 1000];
                    loop {
                        match reader.read(&mut buffer).await? {
                            0 => return io::Result::Ok(()),
                            count => log.borrow_mut().received.extend_from_slice(&buffer[..count]),
                        }
                    }
                }
            };
            handle.spawn(async move {
                let result = transfer.await;
                log.borrow_mut().ends.push(result.err());
            });
        }
    }
    let mut peer: Option<Peer> = None;
    drive(&mut reactor, PAUSE, |_| {
        spared(|| match &mut peer {
            Some(peer) => {
                peer.read();
                peer.send(log.borrow().received.len());
            }
            None => peer = accept().ok(),
        });
        !log.borrow().ends.is_empty() && peer.as_ref().is_none_or(|peer| peer.has_ended)
    })?;
    drop(reactor);
    let log = log.borrow();
    log.judge(&peer.map_or(Vec::new(), |peer| peer.arrived))
}
