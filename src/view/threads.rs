//! What threads of a view share: the standard library's, or that of shuttle, which tries the orders in which they can run.

#[cfg(not(shuttle))]
pub(super) use std::sync::Mutex;
pub(super) use std::sync::PoisonError;
#[cfg(not(shuttle))]
pub(super) use std::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(shuttle))]
pub(super) use std::thread;

#[cfg(not(shuttle))]
pub(super) use arc_swap::ArcSwap;
#[cfg(shuttle)]
pub(super) use shuttle::sync::Mutex;
#[cfg(shuttle)]
pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(shuttle)]
pub(super) use shuttle::thread;

#[cfg(shuttle)]
pub(super) use self::swapped::ArcSwap;

/// A stand-in that shuttle sees.
#[cfg(shuttle)]
mod swapped {
    use std::sync::Arc;

    use shuttle::sync::Mutex;

    #[derive(Debug)]
    pub(in crate::view) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(in crate::view) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(in crate::view) fn load_full(&self) -> Arc<T> {
            self.0.lock().expect("nobody panics with the lock").clone()
        }

        pub(in crate::view) fn store(&self, value: Arc<T>) {
            let mut held = self.0.lock().expect("nobody panics with the lock");
            let before = std::mem::replace(&mut *held, value);
            drop(held);
            drop(before);
        }
    }
}
