//! The same work for many sources, or many mirrors, at once.

use std::num::NonZero;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, available_parallelism};

/// How many threads can run at once. Asked for once: the answer takes six files of `/proc` and `/sys`.
static CORES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, NonZero::get));

/// For so many items there is another thread, which goes on while one waits for the disk. Fewer are done by the time that it has started.
const MANY: usize = 16;

/// How many threads read so many sources of this machine.
pub(super) fn threads_that_read(sources: usize) -> usize {
    threads(sources, *CORES)
}

fn threads(items: usize, cores: usize) -> usize {
    cores.max((items / MANY).min(cores * 2)).min(items)
}

/// Does the same with each item on so many threads, this one among them, and gives the results in the items' order.
pub(super) fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.iter().enumerate().map(|(index, item)| work(index, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(index, item)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        // Where no other can be started, this one does it alone.
        let start = |_| thread().spawn_scoped(scope, worker).ok();
        let handles: Vec<_> = (1..threads).map_while(start).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // This thread works too: on a busy machine the others take their time to begin.
        let mine = worker();
        mine.into_iter().chain(handles.into_iter().flat_map(join)).collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A thread that is to be started.
fn thread() -> Builder {
    #[cfg(test)]
    if tests::IS_REFUSED.get() {
        // More than any machine has.
        return Builder::new().stack_size(1 << 60);
    }
    Builder::new().name("sources".into())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static IS_REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    #[test]
    fn where_no_thread_can_be_started_this_one_does_all() {
        let items: Vec<usize> = (0..100).collect();
        IS_REFUSED.set(true);
        let me = std::thread::current().id();
        let done = in_parallel(&items, 4, |index, item| {
            assert_eq!(std::thread::current().id(), me);
            index + item
        });
        assert!(done.iter().enumerate().all(|(index, sum)| *sum == 2 * index), "{done:?}");
    }

    #[test]
    fn many_sources_have_two_threads_a_core_and_few_one() {
        let of = |items| threads(items, 2);
        assert_eq!(
            [of(0), of(1), of(2), of(10), of(47), of(48), of(64), of(300)],
            [0, 1, 2, 2, 2, 3, 4, 4]
        );
    }
}
