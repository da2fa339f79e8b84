//! Whether there is room for the threads of a process, and for the buffers that they begin with.

use std::hint::black_box;
use std::io;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

/// Expects that so many threads can be started at this moment, and that the first of them get these buffers, each so many bytes: they are and do,
/// all at once, and end. A buffer is not touched.
///
/// Where a few of them could not be started later, some of what they do would be done and some not. The buffers are asked for by the threads,
/// since what an allocator has set apart for these is more than it has for others.
///
/// # Errors
/// One of them cannot be started, or gets no buffer.
pub fn expect_room(threads: usize, buffers: &[usize]) -> io::Result<()> {
    let gate = Mutex::new(());
    let (told, has_buffer) = mpsc::channel();
    thread::scope(|scope| {
        let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..threads {
            let size_bytes = buffers.get(index).copied().unwrap_or_default();
            let (gate, told) = (&gate, told.clone());
            let wait = move || {
                let mut buffer = Vec::<u8>::new();
                let got = buffer.try_reserve_exact(size_bytes);
                // It is asked for although nobody reads it.
                let buffer = black_box(buffer);
                // Nobody listens where another thread could not be started.
                told.send(got).unwrap_or_default();
                drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
                drop(buffer);
            };
            thread::Builder::new().name("room".into()).spawn_scoped(scope, wait)?;
        }
        let mut got = has_buffer.iter().take(threads);
        got.try_for_each(|got| got.map_err(|_| io::ErrorKind::OutOfMemory.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_few_threads() {
        expect_room(0, &[]).unwrap();
        expect_room(100, &[16 << 20; 5]).unwrap();
    }

    #[test]
    fn there_is_no_room_for_more_memory_than_there_is() {
        let error = expect_room(3, &[1, usize::MAX / 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }
}
