//! A read-only union view of ordered sources, mounted with FUSE.
//!
//! The story: [`config`] says which sources there are and in which order. [`sync`] resolves each to a revision and opens a
//! [`store`] for it. [`union`] decides what is visible. The result is a [`snapshot`], and [`view`] answers look-ups and reads from
//! the current one. [`fuse`] carries the kernel's requests to the view, and [`machine`] makes the mount. [`daemon`] wires all of this
//! together, [`control`] lets operators ask it, and [`commands`] are the doors. [`lint`] stands aside: it finds what is visible and would
//! fail where it is used.
//!
//! docs/ARCHITECTURE.md has the plan of these rooms, what each may use, and where to begin reading.

pub mod commands;
pub mod config;
pub mod control;
pub mod daemon;
pub mod fuse;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lint;
pub mod machine;
pub mod snapshot;
pub mod store;
pub mod sync;
pub mod union;
pub mod view;
