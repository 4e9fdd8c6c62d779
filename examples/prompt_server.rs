//! The operator's typed line is the answer to the client's message (often asked about asyncio: how to
//! prompt for input in a `create_server` program).
//!
//! Look at `Desk`: a source without a descriptor, to which two mailboxes bring questions and answers. Who
//! asked first is answered first. A visitor that leaves while it waits costs no answer. (An end of file counts
//! as leaving: TCP does not distinguish a peer that is gone from one that only listens.) A visitor asks one
//! question at a time, so a peer that floods waits in its own buffer.

use std::io;
use std::process::ExitCode;

use echo_reactor::cli::{run_example, write_stdout};
use echo_reactor::{
    Capacity, Chunk, Connection, Framing, Handle, Id, Input, LineBuffer, ListenOptions, Mailbox, Next,
    Protocol, Reactor, Ready, Source, Transport, TryRecv, create_server,
};

type Visit = Handle<Connection<Visitor>>;

const LONGEST_QUESTION: usize = 4096;

struct Desk {
    questions: Handle<Mailbox<Visit>>,
    answers: Handle<Mailbox<Chunk>>,
    /// Whose answer is awaited.
    visit: Option<Visit>,
}

impl Source for Desk {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            let Some(visit) = self.visit.take() else {
                let TryRecv::Item(visit) = self.questions.try_recv(reactor, id) else { return Next::Wait };
                self.visit = Some(visit);
                continue;
            };
            if reactor.contains(visit.id()) {
                let TryRecv::Item(Ok(answer)) = self.answers.try_recv(reactor, id) else {
                    self.visit = Some(visit);
                    return Next::Wait;
                };
                let _ = visit.enter(reactor, |visitor, transport| visitor.answered(transport, &answer));
            }
        }
    }
}

struct Visitor {
    questions: Handle<Mailbox<Visit>>,
    lines: LineBuffer,
    waits: bool,
}

impl Visitor {
    fn ask(&mut self, transport: &mut Transport) {
        let visit = transport.handle::<Self>();
        if self.waits || self.questions.capacity(transport.reactor(), visit.id()) != Capacity::Free {
            return; // it is answered, or woken
        }
        match self.lines.next_line() {
            Ok(Some(question)) => {
                write_stdout(format_args!("{}? {}", visit.id(), String::from_utf8_lossy(&question)));
                self.waits = self.questions.try_send(transport.reactor(), visit.id(), visit).is_ok();
            }
            Ok(None) => {}
            Err(_) => transport.abort(),
        }
    }

    fn answered(&mut self, transport: &mut Transport, answer: &[u8]) {
        transport.write(answer);
        self.waits = false;
        self.ask(transport);
    }
}

impl Protocol for Visitor {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        self.lines.push(data);
        if self.lines.len() > 16 * LONGEST_QUESTION {
            return transport.abort();
        }
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
        let desk = reactor.insert(Desk { questions, answers, visit: None });
        reactor.wake(desk.id());
        let visitor = move || Visitor { questions, lines: LineBuffer::new(LONGEST_QUESTION), waits: false };
        let listener =
            create_server(&mut reactor, &address.to_listen()?, &ListenOptions::default(), visitor)?;
        write_stdout(format_args!("listening on {}\n", listener.addresses(&reactor)?[0]));
        reactor.run()
    })
}
