//! Runs a check with a deadline, and says in a sentence what is wrong with an answer.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use crate::{LIMIT, PATIENCE};

/// What is wrong with an answer.
pub struct Mistake(String);

/// What a check returns.
pub type Verdict = Result<(), Mistake>;

impl From<String> for Mistake {
    fn from(sentence: String) -> Self {
        Mistake(sentence)
    }
}

impl fmt::Debug for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns from a check with a sentence, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err(crate::judge::Mistake::from(format!($($sentence)+)));
        }
    };
}
pub(crate) use ensure;

/// Ends the check from inside the answer, for example in the thousandth call of a loop without end.
pub fn stop(sentence: String) -> ! {
    panic::resume_unwind(Box::new(Mistake(sentence)))
}

/// The name of the threads that call answers.
const ANSWER: &str = "answer";

static HOOK: Once = Once::new();

/// A panic in an answer becomes a sentence. So its place is noted, and it prints nothing.
fn install_panic_hook() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(ANSWER) {
            let place = info.location().filter(|place| place.file().starts_with("tests/"));
            PLACE.set(place.map(|place| format!(" at {place}")));
        } else {
            hook(info);
        }
    }));
}

thread_local! {
    /// Where the thread has panicked.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
    static DOING: RefCell<Arc<Mutex<String>>> = RefCell::default();
}

/// Notes what the answer is called for. The sentence about one that does not return contains it.
pub fn doing(what: &str) {
    DOING.with_borrow(|doing| what.clone_into(&mut doing.lock().unwrap()));
}

/// Runs a check in a thread of its own. A thread that does not return is left behind.
pub fn judge(limit: Duration, check: impl FnOnce() -> Verdict + Send + 'static) -> Verdict {
    let (sender, receiver) = mpsc::channel();
    let doing = Arc::new(Mutex::new(String::new()));
    let shared = doing.clone();
    HOOK.call_once(install_panic_hook);
    let thread = thread::Builder::new().name(ANSWER.to_owned());
    thread
        .spawn(move || {
            DOING.set(shared);
            let verdict = panic::catch_unwind(AssertUnwindSafe(check));
            let _ = sender.send(verdict.unwrap_or_else(|payload| Err(mistake_of(payload))));
        })
        .unwrap();
    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        let doing = doing.lock().unwrap();
        Err(Mistake(format!("your answer did not return within {} second, {doing}", limit.as_secs())))
    })
}

/// Calls a part of an answer in a thread of its own. A panic there ends the check.
pub fn in_another_thread(call: impl FnOnce() + Send + 'static) {
    let call = move || panic::catch_unwind(AssertUnwindSafe(call)).map_err(mistake_of);
    let thread = thread::Builder::new().name(ANSWER.to_owned()).spawn(call).unwrap();
    if let Err(Mistake(sentence)) = thread.join().unwrap() {
        stop(sentence);
    }
}

fn mistake_of(payload: Box<dyn Any + Send>) -> Mistake {
    let payload = match payload.downcast::<Mistake>() {
        Ok(mistake) => return *mistake,
        Err(payload) => payload,
    };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    match text.strip_prefix("not yet implemented") {
        Some(hint) => Mistake(format!("there is still a gap{}", hint.replacen(": ", ". Hint: ", 1))),
        None => {
            let doing = || DOING.with_borrow(|doing| format!(" {}", doing.lock().unwrap()));
            Mistake(format!("your answer panicked{}: {text}", PLACE.take().unwrap_or_else(doing)))
        }
    }
}

/// Panics unless the check answers with the sentence in the head of the wrong answer's file.
pub fn expect_mistake(exercise: &str, wrong: &str, check: impl FnOnce() -> Verdict + Send + 'static) {
    let file = format!("tests/exercises/wrong/{exercise}/{wrong}.rs");
    let text = fs::read_to_string(&file).unwrap();
    let line = |start| text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
    assert!(line("//! Mistake: ").is_some(), "{file} does not say what the mistake is");
    let sentence = line("//! Verdict: ").unwrap_or_else(|| panic!("{file} has no verdict"));
    let limit = if sentence.contains("did not return") { LIMIT } else { PATIENCE };
    match judge(limit, check) {
        Ok(()) => panic!("{file} is accepted"),
        Err(Mistake(found)) => assert!(found.contains(&sentence), "{file}\nverdict: {found}"),
    }
}

/// The names of the wrong answers that there are.
pub fn wrong_answers_of(exercise: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(format!("tests/exercises/wrong/{exercise}"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
