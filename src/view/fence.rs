//! A fence: waits until every request that began before is answered.
//!
//! Two counters take turns. A request counts itself in the one whose turn it is, and a fence passes the turn on and waits for the other to
//! empty. Locks: one, for those who wait; requests take none.

use std::time::Duration;

use super::threads::{AtomicUsize, Mutex, Ordering, PoisonError, fence, thread};

/// Counts requests that are being answered.
#[derive(Debug, Default)]
pub(super) struct Fence {
    turn: AtomicUsize,
    under_way: [AtomicUsize; 2],
    waiting: Mutex<()>,
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub struct Answering<'a>(&'a AtomicUsize);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Fence {
    /// Counts a request in.
    pub(super) fn enter(&self) -> Answering<'_> {
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            let counter = &self.under_way[turn % 2];
            counter.fetch_add(1, Ordering::SeqCst);
            // Between the two the turn may have passed, and a fence may have found this counter empty.
            if self.turn.load(Ordering::SeqCst) == turn {
                return Answering(counter);
            }
            counter.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the requests that are under way now are answered. Later ones do not delay it.
    pub(super) fn wait(&self) {
        let alone = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        let counter = &self.under_way[turn % 2];
        let mut rounds = 0_u32;
        while counter.load(Ordering::Acquire) != 0 {
            rounds += 1;
            if rounds < 64 {
                thread::yield_now();
            } else {
                thread::sleep(Duration::from_micros(50));
            }
        }
        fence(Ordering::SeqCst);
        drop(alone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_fence_waits_for_those_before_and_not_for_those_after() {
        let fence = Arc::new(Fence::default());
        let before = fence.enter();
        let is_through = Arc::new(AtomicBool::new(false));
        let waiting = {
            let (fence, is_through) = (fence.clone(), is_through.clone());
            thread::spawn(move || {
                fence.wait();
                is_through.store(true, Ordering::SeqCst);
            })
        };
        while fence.turn.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let after = fence.enter();
        assert!(!is_through.load(Ordering::SeqCst));
        drop(before);
        waiting.join().unwrap();
        assert!(is_through.load(Ordering::SeqCst));
        drop(after);
    }

    /// Readers hold the value that they loaded while they are in; whoever replaced it and waited may take the old one away.
    #[test]
    fn nobody_who_saw_the_old_value_is_left_behind_a_fence() {
        let fence = Fence::default();
        let current = AtomicUsize::new(1);
        let is_alive: Vec<AtomicBool> = (0..2001).map(|_| AtomicBool::new(true)).collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        let answering = fence.enter();
                        let seen = current.load(Ordering::SeqCst);
                        assert!(is_alive[seen].load(Ordering::SeqCst), "{seen} was taken away");
                        drop(answering);
                    }
                });
            }
            for next in 2..=2000 {
                let old = current.swap(next, Ordering::SeqCst);
                fence.wait();
                is_alive[old].store(false, Ordering::SeqCst);
            }
            is_over.store(true, Ordering::SeqCst);
        });
    }
}
