//! The exercises of the course in `src/guide/`.
//!
//! Your file is `exNN_name.rs`. It has a task, a gap and a hint. This command checks it:
//!
//! ```sh
//! cargo test --test exercises ex03_readiness -- --ignored
//! ```
//!
//! `checks/` has the check of each exercise, `solutions/` has one right answer to each, and
//! `wrong/` has typical wrong answers. The tests that are not ignored run each check against all of
//! them: it accepts the solution, and answers each wrong one with the sentence that is in the head
//! of its file.

#![allow(clippy::pedantic, missing_docs)] // for the library; an answer is read by a person

mod checks;
mod judge;
mod solutions;
#[allow(unused, clippy::all)] // they are wrong
mod wrong;

use std::time::Duration;

use judge::{Verdict, expect_mistake, judge, wrong_answers_of};

/// An answer that has not returned by then is wrong.
const LIMIT: Duration = Duration::from_secs(1);

/// The same for an answer that is known to return, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Declares the tests of each exercise: its name, what the check calls, and its wrong answers.
macro_rules! exercises {
    ($($(#[$attribute:meta])* $name:ident($answer:expr): $($wrong:ident),+;)+) => {
        $(#[allow(unused, clippy::all)] // it has a gap
        mod $name;)+

        $(#[test]
        #[ignore = "the reader's answer"]
        fn $name() -> Verdict {
            judge(LIMIT, || {
                use self::$name::*;
                checks::$name::check($answer)
            })
        })+

        mod solution {
            use super::*;

            $(#[test]
            $(#[$attribute])*
            fn $name() -> Verdict {
                judge(PATIENCE, || {
                    use solutions::$name::*;
                    checks::$name::check($answer)
                })
            })+
        }

        #[test]
        fn each_task_has_its_command() {
            for name in [$(stringify!($name)),+] {
                let text = std::fs::read_to_string(format!("tests/exercises/{name}.rs")).unwrap();
                assert!(text.contains(&format!("cargo test --test exercises {name} -- --ignored")), "{name}");
            }
        }

        mod wrong_answers {
            use super::*;

            $(#[test]
            $(#[$attribute])*
            fn $name() {
                let name = stringify!($name);
                $(expect_mistake(name, stringify!($wrong), || {
                    use wrong::$name::$wrong::*;
                    checks::$name::check($answer)
                });)+
                assert_eq!(wrong_answers_of(name), [$(stringify!($wrong)),+]);
            })+
        }
    };
}

exercises! {
    ex03_readiness(interest):
        always_writable, never_writable, reads_after_eof, reads_into_a_full_buffer, reads_when_empty,
        stops_writing_at_eof;
    ex04_edge(receive):
        interrupted_is_an_error, reads_once, spins_at_eof, stops_at_a_short_read, swallows_errors;
    ex05_slab(Table::default):
        constant_generation, no_generation, put_back_unchecked, raises_the_generation_in_insert,
        raises_the_generation_in_take_out,         remove_unchecked, removes_only_what_is_there, slot_without_an_entry_is_free;
    ex06_budget(turn):
        calls_twice, forgets_the_rest, goes_on_in_the_same_turn, no_budget, polls_once_more,
        sleeps_on_the_queue;
    ex07_backpressure(Connection::new):
        drops_what_is_too_much, forgets_the_event, marks_at_events_only, never_resumes, no_marks, one_mark,
        pause_clears_the_bit, pauses_both, resumes_when_empty;
    ex08_timers(turn):
        excludes_now, one_message, rounds_down, runs_the_first, sleeps_forever, subtracts, timers_without_end,
        wakes_every_10_ms;
    #[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
    ex09_stdin(Input::open):
        blocks, loses_the_last_line, one_line_for_each_event, opens_descriptor_0, sets_the_shared_flag,
        takes_a_piece_for_lines;
    ex10_protocol(Shout::default):
        a_piece_is_a_line, aborts_a_long_line, aborts_at_eof, drops_the_rest_at_eof,
        limits_whole_lines_only, measures_without_the_newline, one_line_of_a_piece;
    ex11_futures((send, Receive::new)):
        forgets_to_wake, keeps_the_first_waker, leaves_no_waker, unlocks_in_between,
        wakes_before_it_sends, wakes_itself;
    ex12_closing(turn):
        closes_after_the_shutdown, closes_at_would_block, no_budget, no_limit, reads_once,
        shuts_down_first, waits_at_the_end;
}
