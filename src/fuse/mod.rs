//! One protocol: the kernel's requests, carried to the view and answered.
//!
//! Decides nothing about what is visible. The errno table is in `errno`, and nowhere else. Every request is answered exactly once,
//! also when a handler panics. `filesystem` has the handlers, `session` the threads that call them; begin there.

mod ahead;
mod ask;
mod attr;
mod counts;
mod errno;
mod filesystem;
mod growth;
mod handshake;
mod kernel;
mod passthrough;
mod refusal;
mod reply;
mod session;
mod waiting;
mod wire;

#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use handshake::Agreed;
pub use kernel::{Courier, KernelCache};
pub use passthrough::Passthrough;
pub use session::{
    BUFFER_BYTES, Beginning, Owner, Served, Serving, SessionError, buffers, serve, threads,
};
