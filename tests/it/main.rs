//! Tests of the program as its users run it: a real mount, read by programs that nobody here wrote.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod agreement;
mod clients;
mod commands;
mod confinement;
mod control_group;
mod costs;
mod cuts;
mod deaths;
mod diff;
mod doctor;
mod doors;
mod env;
mod exec;
mod fatal;
mod faults;
mod fixture;
mod flips;
mod floods;
mod git_directory;
mod golden;
mod hangs;
mod hostile;
mod injections;
mod keeper;
mod labels;
mod large;
mod lint;
mod live;
mod live_bytes;
mod logging;
mod lower;
mod merging;
mod messages;
mod moments;
mod mounting;
mod mutants;
mod naming;
mod observing;
mod old_kernels;
mod oom;
mod passing;
mod passthrough;
mod passthrough_keeper;
mod pins;
mod places;
mod planted;
mod remotes;
mod serving;
mod small_disks;
mod starts;
mod stored;
mod swaps;
mod sync_faults;
mod threads;
mod torn;
mod users;
mod views;
mod views_behind;
mod views_confined;
mod views_keeper;
mod views_nested;
mod views_removed;
mod views_serving;
mod views_stored;
mod waiting;
