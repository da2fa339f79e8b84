//! What is visible, and why: the union of ordered sources.
//!
//! Pure: no I/O, no clock, no environment, no crate but `thiserror`. Sources are listed elsewhere (`sync::build`);
//! here their listings become entries ([`entries`]), entries become layers, stacks and a namespace ([`namespace`]),
//! and namespaces answer questions: why a path shows what it shows ([`explain`]), and what differs between two ([`change`]).

pub mod change;
pub mod entries;
pub mod explain;
pub mod hex;
pub mod name;
pub mod namespace;
pub mod object;
pub mod revision;
pub mod source;
pub mod succession;
pub mod surface;

#[cfg(test)]
mod tests;
