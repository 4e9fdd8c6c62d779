//! What calls the answers. Each check has its own small world: sockets, a kernel, a clock.

pub mod ex03_readiness;
pub mod ex04_edge;
pub mod ex05_slab;
pub mod ex06_budget;
pub mod ex07_backpressure;
pub mod ex08_timers;
pub mod ex09_stdin;
pub mod ex10_protocol;
pub mod ex11_futures;
pub mod ex12_closing;
