//! Tests of the program as its users run it: a real mount, read by programs that nobody here wrote.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod clients;
mod commands;
mod diff;
mod env;
mod fixture;
mod flips;
mod golden;
mod large;
mod lint;
mod live;
mod merging;
mod mounting;
mod pins;
mod serving;
mod torn;
mod users;
mod waiting;
