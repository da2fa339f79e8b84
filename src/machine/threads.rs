//! Whether there is room for the threads of a process.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Expects that so many threads can be started at this moment: they are, all at once, and end.
///
/// Where a few of them could not be started later, some of what they do would be done and some not.
///
/// # Errors
/// One of them cannot be started.
pub fn expect_room(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..threads {
            let wait = || drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
            thread::Builder::new().name("room".into()).spawn_scoped(scope, wait)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_few_threads() {
        expect_room(0).unwrap();
        expect_room(100).unwrap();
    }
}
