//! The operator's typed line is the answer to the client's message (asked of asyncio often: how to
//! prompt for input in a `create_server` program).
//!
//! Look at `Desk`: a source without a descriptor, to which connections and stdin bring their part. Who
//! asked first is answered first; who leaves while waiting is forgotten, and costs no answer. (An end of
//! file counts as leaving: TCP does not tell who is gone from who will only listen.)

use std::collections::VecDeque;
use std::io;

use echo_reactor::cli::{address_argument, print};
use echo_reactor::{
    Chunk, Connection, Framing, Handle, Id, Input, Listener, Mailbox, Next, Protocol, Reactor, Ready, Serve,
    Source, Taken, Transport, create_server,
};

struct Desk {
    answers: Handle<Mailbox<Chunk>>,
    waiting: VecDeque<Handle<Connection<Visitor>>>,
}

impl Source for Desk {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        while let Some(&visitor) = self.waiting.front() {
            if reactor.contains(visitor.id()) {
                let Taken::Item(Ok(answer)) = self.answers.take(reactor, id) else { break };
                Connection::enter(reactor, visitor, |_, transport| transport.write(&answer));
            }
            self.waiting.pop_front();
        }
        Next::Wait
    }
}

struct Visitor {
    desk: Handle<Desk>,
    question: Vec<u8>,
}

impl Protocol for Visitor {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.question.extend_from_slice(piece);
            if self.question.len() > 4096 {
                return transport.abort();
            }
            if self.question.ends_with(b"\n") {
                print(format_args!("{}? {}", transport.id(), String::from_utf8_lossy(&self.question)));
                self.question.clear();
                let own = Handle::new(transport.id());
                let desk = self.desk;
                transport.reactor().with(desk, |desk, _| desk.waiting.push_back(own));
                transport.reactor().wake(desk.id());
            }
        }
    }
}

fn main() -> io::Result<()> {
    let addresses = address_argument()?.to_listen()?;
    let mut reactor = Reactor::new()?;
    let answers = Mailbox::new(&mut reactor, 16);
    Input::open(&mut reactor, &io::stdin(), Framing::Lines, answers)?;
    let desk = reactor.insert(Desk { answers, waiting: VecDeque::new() });
    let visitor = move || Visitor { desk, question: Vec::new() };
    let listener = create_server(&mut reactor, &addresses, &Serve::default(), visitor)?;
    print(format_args!("listening on {}\n", Listener::addresses(&mut reactor, listener)[0]));
    reactor.run()
}
