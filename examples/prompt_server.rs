//! A server whose operator types the answer to each client's question. A common question about
//! asyncio is how to read input in a `create_server` program.
//!
//! Look at `Desk`: a source without a descriptor, which takes questions and answers from two
//! mailboxes. It answers the clients in the order of their questions, and skips those that have
//! left. (A client that sends an end of file counts as gone: TCP does not show whether the client
//! still reads.) Each client has at most one question in the queue, so a flood of questions stays
//! in that client's buffer.

use std::io;
use std::process::ExitCode;

use echo_reactor::cli::{Escaped, run_example, write_stdout};
use echo_reactor::{
    Chunk, Connection, Flow, Framing, Handle, Id, Input, LineBuffer, ListenOptions, Mailbox, Next, Protocol,
    Reactor, Ready, Source, Transport, TryRecv, create_server,
};

type ClientHandle = Handle<Connection<Client>>;

const MAX_QUESTION_LENGTH: usize = 4096;

struct Desk {
    questions: Handle<Mailbox<ClientHandle>>,
    answers: Handle<Mailbox<Chunk>>,
    /// The client that waits for the next answer.
    current: Option<ClientHandle>,
}

impl Source for Desk {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            let Some(client) = self.current.take() else {
                let TryRecv::Item(client) = self.questions.try_recv(reactor, id) else { return Next::Wait };
                self.current = Some(client);
                continue;
            };
            if reactor.contains(client.id()) {
                let TryRecv::Item(Ok(answer)) = self.answers.try_recv(reactor, id) else {
                    self.current = Some(client);
                    return Next::Wait;
                };
                let _ = client.enter(reactor, |client, transport| client.send_answer(transport, &answer));
            }
        }
    }
}

struct Client {
    questions: Handle<Mailbox<ClientHandle>>,
    lines: LineBuffer,
    is_waiting: bool,
}

impl Client {
    /// Puts the next question into the queue.
    fn ask(&mut self, transport: &mut Transport) {
        let client = transport.handle::<Self>();
        if self.is_waiting || transport.flow() == Flow::Full {
            return; // called again after the answer, or when the client reads its answers
        }
        if self.questions.flow(transport.reactor(), client.id()) != Flow::Open {
            return; // called again when the mailbox has room
        }
        match self.lines.next_line() {
            Ok(Some(question)) => {
                let text = question.strip_suffix(b"\n").unwrap_or(&question);
                write_stdout(format_args!("{}? {}\n", client.id(), Escaped(text)));
                self.is_waiting = self.questions.try_send(transport.reactor(), client.id(), client).is_ok();
            }
            Ok(None) => {}
            Err(_) => transport.abort(),
        }
    }

    fn send_answer(&mut self, transport: &mut Transport, answer: &[u8]) {
        transport.write(answer);
        self.is_waiting = false;
        self.ask(transport);
    }
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.lines.push(data);
        if self.lines.len() > 16 * MAX_QUESTION_LENGTH {
            return transport.abort();
        }
        self.ask(transport);
    }

    fn resume_writing(&mut self, transport: &mut Transport) {
        transport.resume_reading();
        self.ask(transport);
    }

    fn woken(&mut self, transport: &mut Transport) {
        self.ask(transport);
    }
}

fn main() -> ExitCode {
    run_example(|address| {
        let mut reactor = Reactor::new()?;
        let questions = Mailbox::new(&mut reactor, 1024);
        let answers = Mailbox::new(&mut reactor, 16);
        Input::open(&mut reactor, &io::stdin(), Framing::Lines, answers)?;
        let desk = reactor.insert(Desk { questions, answers, current: None });
        reactor.wake(desk.id());
        let client =
            move || Client { questions, lines: LineBuffer::new(MAX_QUESTION_LENGTH), is_waiting: false };
        let listener = create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), client)?;
        write_stdout(format_args!("listening on {}\n", listener.addresses(&reactor)?[0]));
        reactor.run()
    })
}
