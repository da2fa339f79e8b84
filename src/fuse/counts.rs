//! How many requests of each kind the kernel has sent.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// Requests since the mount, by kind.
        #[derive(Debug, Default)]
        pub struct Counts {
            $(pub(super) $name: Count,)*
        }

        impl Counts {
            /// Each kind with its count, in a fixed order.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counts!(
    lookup,
    forget,
    getattr,
    readlink,
    open,
    read,
    opendir,
    readdir,
    readdirplus,
    statfs,
    getxattr,
    listxattr,
    access,
    lseek,
    write,
    other,
);

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Counts one request.
    pub(super) fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
