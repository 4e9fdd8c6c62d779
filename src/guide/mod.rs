#![cfg_attr(not(doctest), doc = include_str!("links.md"))]
#![doc = include_str!("README.md")]
#![allow(rustdoc::invalid_rust_codeblocks)] // an excerpt may end in the middle of a function

// Each link of a chapter has two targets. On a code host, the definition at the end of the chapter
// points to a file. In `cargo doc`, the definition in `links.md` comes first, and the first one counts.

/// A chapter, with its links. Its examples show facts about Linux, so they run only there.
macro_rules! chapter {
    ($module:ident, $file:literal) => {
        #[cfg_attr(not(doctest), doc = include_str!("links.md"))]
        #[cfg_attr(any(not(doctest), target_os = "linux"), doc = include_str!($file))]
        pub mod $module {}
    };
}

chapter!(ch01_blocking, "01_blocking.md");
chapter!(ch02_busy, "02_busy.md");
chapter!(ch03_readiness, "03_readiness.md");
chapter!(ch04_edge, "04_edge.md");
chapter!(ch05_slab, "05_slab.md");
chapter!(ch06_budget, "06_budget.md");
chapter!(ch07_backpressure, "07_backpressure.md");
chapter!(ch08_timers, "08_timers.md");
chapter!(ch09_stdin, "09_stdin.md");
chapter!(ch10_protocol, "10_protocol.md");
chapter!(ch11_futures, "11_futures.md");
chapter!(ch12_closing, "12_closing.md");
chapter!(ch13_hostile, "13_hostile.md");
chapter!(ch14_elsewhere, "14_elsewhere.md");

/// The programs of the course, and what each one does.
///
#[doc = include_str!("steps.md")]
pub mod steps {
    /// A program of the course, as a page.
    macro_rules! step {
        ($module:ident, $file:literal) => {
            #[doc = concat!("`examples/steps/", $file, "`\n\n```rust,ignore")]
            #[doc = include_str!(concat!("../../examples/steps/", $file))]
            #[doc = "```"]
            pub mod $module {}
        };
    }

    step!(step_01_blocking, "01_blocking.rs");
    step!(step_02_threads, "02_threads.rs");
    step!(step_03_busy, "03_busy.rs");
    step!(step_04_poll, "04_poll.rs");
    step!(step_05_epoll, "05_epoll.rs");
    step!(step_06_slab, "06_slab.rs");
    step!(step_07_budget, "07_budget.rs");
    step!(step_08_write_buffer, "08_write_buffer.rs");
    step!(step_09_timers, "09_timers.rs");
    step!(step_10_stdin, "10_stdin.rs");
    step!(step_11_callbacks, "11_callbacks.rs");
    step!(step_12_task, "12_task.rs");
}
