//! Memory that decodings may take at the same time.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many bytes, lent to whoever asks, and taken back.
#[derive(Debug)]
pub(super) struct Budget {
    all_bytes: u64,
    free_bytes: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`], until it is dropped.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(all_bytes: u64) -> Self {
        Self { all_bytes, free_bytes: Mutex::new(all_bytes), returned: Condvar::new() }
    }

    /// Waits until so much is free. Who wants more than there is waits until nobody else has any.
    pub(super) fn borrow(&self, bytes: u64) -> Lent<'_> {
        let bytes = bytes.min(self.all_bytes);
        let free = self.free_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.returned.wait_while(free, |free| *free < bytes);
        *waited.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Lent { budget: self, bytes }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.budget.free_bytes.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn never_more_is_lent_than_there_is() {
        let budget = Budget::new(100);
        let (lent, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (budget, lent, most) = (&budget, &lent, &most);
                scope.spawn(move || {
                    for bytes in [10, 60, 100, 5000, 1].map(|bytes| bytes + n) {
                        let part = budget.borrow(bytes);
                        let now = lent.fetch_add(part.bytes, Ordering::SeqCst) + part.bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        lent.fetch_sub(part.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 100);
        assert_eq!(*budget.free_bytes.lock().unwrap(), 100);
    }
}
