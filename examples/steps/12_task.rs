//! Step 12: a task for each connection. `echo` is the code of step 1 with `.await`.
//!
//! The compiler makes a state machine of `echo`. It holds the buffer and the place in the code,
//! which `Connection` of step 9 had to remember by hand. A future that has to wait leaves its
//! waker, and the next event calls that waker. A waker sends the task's token to the loop, from any
//! thread, and the loop polls the task. A stale token finds no task. Each connection owns a buffer
//! again, and each wake costs a system call, even in the loop's own thread.
//!
//! Try: `diff examples/steps/01_blocking.rs examples/steps/12_task.rs | less`, and look for `echo`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{self, Context, Wake};
use std::thread;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SLOTS: usize = 1 << 32;
const BUDGET: usize = 16;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7777".to_owned());
    let listener = std::net::TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let idle_limit = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(60_000_u32);
    let mut server = Server::new(TcpListener::from_std(listener), Duration::from_millis(idle_limit.into()))?;
    let loop_waker = server.loop_waker.clone();
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || wait_for_stop(&sender, &loop_waker));
    let mut events = Events::with_capacity(64);
    while server.listener.is_some() || !server.tasks.is_empty() {
        server.turn(&mut events)?;
        for () in messages.try_iter() {
            server.listener = None;
        }
    }
    Ok(())
}

/// Runs in a thread of its own, because reading stdin blocks.
fn wait_for_stop(sender: &Sender<()>, loop_waker: &Waker) {
    let mut lines = io::stdin().lines().map_while(Result::ok);
    if lines.any(|line| line == "stop") && sender.send(()).is_ok() {
        let _ = loop_waker.wake(); // the message first: the loop looks for it when it wakes
    }
}

async fn echo(stream: Rc<Stream>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

struct Server {
    poll: Poll,
    /// `None` after `stop`.
    listener: Option<TcpListener>,
    tasks: Table,
    woken: Receiver<Token>,
    sender: Sender<Token>,
    /// Kept, because a waker that is dropped takes its wake-up with it.
    loop_waker: Arc<Waker>,
    timers: BTreeSet<(Instant, Token)>,
    idle_limit: Duration,
}

impl Server {
    fn new(mut listener: TcpListener, idle_limit: Duration) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let loop_waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, woken) = mpsc::channel();
        let (listener, tasks, timers) = (Some(listener), Table::default(), BTreeSet::new());
        Ok(Server { poll, listener, tasks, woken, sender, loop_waker, timers, idle_limit })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let now = Instant::now();
        let timeout = self.timers.first().map(|(when, _)| when.saturating_duration_since(now));
        // The only call that sleeps. Ctrl-Z and `fg` interrupt it.
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &*events {
            self.dispatch(event.token(), event);
        }
        let woken: BTreeSet<_> = self.woken.try_iter().collect();
        for token in woken {
            self.run(token);
        }
        // A timer decides when everything that came before it was due has been looked at. A full
        // list may have left something out, so the next list is larger.
        if events.iter().count() < events.capacity() {
            self.run_timers(now);
        } else {
            *events = Events::with_capacity(2 * events.capacity());
        }
        Ok(())
    }

    /// Runs the timers that were due before the poll.
    fn run_timers(&mut self, now: Instant) {
        let later = self.timers.split_off(&(now, Token(usize::MAX)));
        for (_, token) in mem::replace(&mut self.timers, later) {
            self.close(token); // a stale token finds nothing
        }
    }

    /// Closes a connection. This frees a descriptor, so `accept` may succeed again.
    fn close(&mut self, token: Token) {
        self.tasks.free(token);
        self.waker_of(LISTENER).wake();
    }

    fn accept(&mut self) {
        let mut failures = 0;
        for _ in 0..BUDGET {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.add(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An error may concern one connection only, so the next call may succeed.
                Err(_) if failures < BUDGET - 1 => failures += 1,
                // Every call has failed, for example because no descriptor is left.
                Err(error) => return eprintln!("accept: {error}"), // `close` calls it again
            }
        }
        self.waker_of(LISTENER).wake();
    }

    fn add(&mut self, mut stream: TcpStream) {
        let token = self.tasks.reserve();
        let deadline = Instant::now() + self.idle_limit;
        self.timers.insert((deadline, token));
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, token, both) {
            Ok(()) => self.tasks.put_back(token, Task::new(stream, deadline, self.waker_of(token))),
            Err(error) => {
                eprintln!("connection: {error}");
                self.tasks.free(token);
            }
        }
    }

    fn waker_of(&self, token: Token) -> task::Waker {
        Arc::new(TaskWaker { token, sender: self.sender.clone(), loop_waker: self.loop_waker.clone() }).into()
    }

    fn dispatch(&mut self, token: Token, event: &Event) {
        if token == LISTENER {
            return self.waker_of(LISTENER).wake(); // it runs once in a turn, as a task does
        }
        let Some(mut task) = self.tasks.take_out(token) else { return };
        task.stream.notify(event);
        self.timers.remove(&(task.deadline, token));
        task.deadline = Instant::now() + self.idle_limit;
        self.timers.insert((task.deadline, token));
        self.tasks.put_back(token, task);
    }

    fn run(&mut self, token: Token) {
        if token == LISTENER {
            return self.accept();
        }
        let Some(mut task) = self.tasks.take_out(token) else { return };
        match task.serve() {
            task::Poll::Ready(()) => self.close(token),
            task::Poll::Pending => self.tasks.put_back(token, task),
        }
    }
}

/// The tasks, and an empty place for each one that is taken out.
#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    generation: usize,
    task: Option<Task>,
}

impl Table {
    fn reserve(&mut self) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        Token(self.slots[index].generation * SLOTS + index)
    }

    /// The slot of a token, unless the token is stale.
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.0 % SLOTS)?;
        (slot.generation == token.0 / SLOTS).then_some(slot)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn take_out(&mut self, token: Token) -> Option<Task> {
        self.slot(token)?.task.take()
    }

    fn put_back(&mut self, token: Token, task: Task) {
        if let Some(slot) = self.slot(token) {
            slot.task = Some(task);
        }
    }

    fn free(&mut self, token: Token) {
        if let Some(slot) = self.slot(token) {
            *slot = Slot { generation: (slot.generation + 1) % SLOTS, task: None };
            self.free.push(token.0 % SLOTS);
        }
    }
}

/// Sends a token to the loop, and wakes it.
struct TaskWaker {
    token: Token,
    sender: Sender<Token>,
    loop_waker: Arc<Waker>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if self.sender.send(self.token).is_ok() {
            let _ = self.loop_waker.wake();
        }
    }
}

struct Task {
    deadline: Instant,
    stream: Rc<Stream>,
    future: Pin<Box<dyn Future<Output = io::Result<()>>>>,
    waker: task::Waker,
}

impl Task {
    fn new(socket: TcpStream, deadline: Instant, waker: task::Waker) -> Self {
        waker.wake_by_ref(); // for the first poll
        let stream = Rc::new(Stream::new(socket));
        Task { deadline, stream: stream.clone(), future: Box::pin(echo(stream)), waker }
    }

    fn serve(&mut self) -> task::Poll<()> {
        self.stream.budget.set(BUDGET);
        let mut context = Context::from_waker(&self.waker);
        self.future.as_mut().poll(&mut context).map(|result| {
            result.unwrap_or_else(|error| eprintln!("connection: {error}"));
        })
    }
}

/// The connection of a task, shared with its future.
struct Stream {
    socket: TcpStream,
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// Calls that are left in this turn.
    budget: Cell<usize>,
    /// The waker of the future that waits.
    waiting: RefCell<Option<task::Waker>>,
}

impl Stream {
    fn new(socket: TcpStream) -> Self {
        let (readable, writable) = (Cell::default(), Cell::default());
        Stream { socket, readable, writable, budget: Cell::default(), waiting: RefCell::default() }
    }

    fn notify(&self, event: &Event) {
        self.readable.set(self.readable.get() || event.is_readable());
        self.writable.set(self.writable.get() || event.is_writable());
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(&self.readable, |mut socket| socket.read(buffer)).await
    }

    async fn write_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let count = self.call(&self.writable, |mut socket| socket.write(data)).await?;
            data = &data[count..];
        }
        Ok(())
    }

    /// Waits until the call does not block.
    async fn call(
        &self,
        is_ready: &Cell<bool>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        poll_fn(|context| {
            while is_ready.get() {
                if self.budget.get() == 0 {
                    context.waker().wake_by_ref(); // in the next turn
                    return task::Poll::Pending;
                }
                self.budget.set(self.budget.get() - 1);
                match call(&self.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => is_ready.set(false),
                    result => return task::Poll::Ready(result),
                }
            }
            self.waiting.replace(Some(context.waker().clone()));
            task::Poll::Pending
        })
        .await
    }
}
