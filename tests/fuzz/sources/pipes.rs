//! The pipes of inputs and outputs, and the bytes that they must deliver.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::OnceLock;

use echo_reactor::mio::unix::pipe;
use echo_reactor::{Chunk, Flow, Framing, Handle, Id, Input, Mailbox, Output, Reactor, TryRecv};

use super::super::calls::Callbacks;
use super::models::List;
use super::{Script, Shared, called};

const LARGEST_WRITE: usize = 100_000;
const HIGH_WATER: usize = 64 * 1024;

pub struct InputPipe {
    pub handle: Handle<Input>,
    pub chunks: Handle<Mailbox<Chunk>>,
    pub sender: Option<pipe::Sender>,
    pub framing: Framing,
    pub model: PipeModel,
    /// Whether a command has removed the input, or closed its mailbox.
    pub is_cut: bool,
}

pub struct OutputPipe {
    pub handle: Handle<Output>,
    pub receiver: Option<pipe::Receiver>,
    pub model: PipeModel,
    pub has_failed: bool,
    pub is_removed: bool,
    pub on_flushed: Callbacks,
}

/// Receives a chunk. Returns whether the worker waits for one.
pub fn receive_chunk(input: &mut InputPipe, id: Id, reactor: &mut Reactor) -> bool {
    match input.chunks.try_recv(reactor, id) {
        TryRecv::Item(chunk) => {
            let bytes = chunk.unwrap();
            input.model.receive(&bytes);
            let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
            let is_last = input.sender.is_none() && input.model.received == input.model.sent;
            let is_line = newlines == 1 && bytes.ends_with(b"\n");
            let is_piece = newlines == 0 && (is_last || bytes.len() == Input::LONGEST_LINE);
            assert!(input.framing == Framing::Bytes || is_line || is_piece, "{} bytes", bytes.len());
            assert!(!bytes.is_empty() && bytes.len() <= Input::LONGEST_LINE);
        }
        TryRecv::Empty => return true,
        TryRecv::Closed => {
            let is_at_end = input.sender.is_none() && input.model.received == input.model.sent;
            assert!(input.is_cut || is_at_end, "bytes are lost");
        }
    }
    false
}

/// Returns a length: most are short.
fn length(argument: usize) -> usize {
    LARGEST_WRITE * argument.pow(4) / 255_usize.pow(4)
}

/// Writes if there is room. Returns whether the worker waits for room.
pub fn write(
    output: &mut OutputPipe,
    id: Id,
    argument: usize,
    others_waited: bool,
    reactor: &mut Reactor,
) -> bool {
    let mut flow = output.handle.flow(reactor, id);
    if flow == Flow::Open {
        let length = length(argument);
        flow = output.handle.write(reactor, id, output.model.next(length));
        output.model.sent += if flow == Flow::Closed { 0 } else { length };
    }
    if flow == Flow::Closed {
        assert!(output.is_removed || output.receiver.is_none(), "the output has failed");
    } else {
        let buffered = output.handle.buffered(reactor).unwrap();
        assert!(flow == Flow::Full || buffered <= HIGH_WATER);
        assert!(flow == Flow::Open || buffered > HIGH_WATER || others_waited);
        assert!(buffered <= HIGH_WATER + LARGEST_WRITE, "{buffered} bytes are buffered");
    }
    flow == Flow::Full
}

pub fn open_input(argument: u8, reactor: &mut Reactor) -> InputPipe {
    let (sender, receiver) = pipe::new().unwrap();
    let framing = if argument.is_multiple_of(2) { Framing::Bytes } else { Framing::Lines };
    let chunks = Mailbox::new(reactor, usize::from(argument) / 4 % 2 + 1);
    let handle = Input::open(reactor, &receiver, framing, chunks).unwrap();
    let model = PipeModel { has_long_lines: argument & 2 > 0, ..PipeModel::default() };
    InputPipe { handle, chunks, sender: Some(sender), framing, model, is_cut: false }
}

pub fn open_output(number: usize, shared: Shared, reactor: &mut Reactor) -> OutputPipe {
    let (sender, receiver) = pipe::new().unwrap();
    let on_error = move |reactor: &mut Reactor, error: io::Error| {
        let mut script = shared.borrow_mut();
        let output = &mut script.outputs[number];
        assert!(output.receiver.is_none() && error.kind() == ErrorKind::BrokenPipe && !output.has_failed);
        output.has_failed = true;
        drop(script);
        called(&shared, reactor);
    };
    let handle = Output::open(reactor, &sender, on_error).unwrap();
    let (receiver, model, on_flushed) = (Some(receiver), PipeModel::default(), Callbacks::default());
    OutputPipe { handle, receiver, model, has_failed: false, is_removed: false, on_flushed }
}

/// Writes to the pipe of an input, or closes it.
pub fn feed(script: &mut Script, number: usize, argument: u8) {
    let input = &mut script.inputs[number];
    if argument == 255 {
        input.sender = None;
        script.workers.wake_all(List::Chunks(number));
    } else if let Some(mut sender) = input.sender.as_ref() {
        let length = length(argument.into());
        input.model.sent += sender.write(input.model.next(length)).unwrap_or(0);
    }
}

/// Reads from the pipe of an output, or closes it.
pub fn drain(script: &mut Script, number: usize, argument: u8) {
    let output = &mut script.outputs[number];
    if argument == 255 {
        output.receiver = None;
        script.workers.wake_all(List::Output(number));
    } else if let Some(mut receiver) = output.receiver.as_ref() {
        let mut bytes = vec![0; usize::from(argument) * 400];
        let count = receiver.read(&mut bytes).unwrap_or(0);
        output.model.receive(&bytes[..count]);
        assert!(output.model.received <= output.model.sent);
    }
}

/// The bytes of a pipe: an endless pattern of lines.
#[derive(Default)]
pub struct PipeModel {
    pub has_long_lines: bool,
    pub sent: usize,
    pub received: usize,
}

impl PipeModel {
    /// More than a pipe takes, and than is received at once.
    const LONGEST: usize = 128 * 1024;

    /// Returns the next bytes to send.
    pub fn next(&self, length: usize) -> &'static [u8] {
        self.bytes(self.sent, length)
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        assert!(bytes == self.bytes(self.received, bytes.len()), "after {} bytes", self.received);
        self.received += bytes.len();
    }

    /// Returns whether the bytes that were sent and not received hold a newline.
    pub fn has_line(&self) -> bool {
        self.bytes(self.received, self.sent - self.received).contains(&b'\n')
    }

    /// Returns a part of the pattern: short lines, or lines that are longer than an item.
    fn bytes(&self, offset: usize, length: usize) -> &'static [u8] {
        static PATTERNS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
        let pattern = |period: usize| {
            let byte = move |index: usize| {
                if index % period == period - 1 { b'\n' } else { b'0' + (index % period % 61) as u8 }
            };
            (0..period + 3 * Self::LONGEST).map(byte).collect()
        };
        let (period, number) = if self.has_long_lines { (70_000, 1) } else { (1021, 0) };
        let all = &PATTERNS.get_or_init(|| [pattern(1021), pattern(70_000)])[number];
        &all[offset % period..][..length]
    }
}
