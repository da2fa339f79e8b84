//! How many requests of each kind the kernel has sent, and how many of them failed.

use std::sync::atomic::{AtomicU64, Ordering};

use fuser::Errno;

macro_rules! counts {
    ($($name:ident),* $(,)?) => {
        /// Requests since the mount, by kind.
        #[derive(Debug, Default)]
        pub struct Counts {
            $(pub(super) $name: Count,)*
            ahead: AtomicU64,
        }

        impl Counts {
            /// Each kind with its count, in a fixed order.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }

            /// Files that the kernel was given before it asked for them.
            pub fn ahead(&self) -> u64 {
                self.ahead.load(Ordering::Relaxed)
            }

            /// Counts such files.
            pub(super) fn given_ahead(&self, files: u64) {
                self.ahead.fetch_add(files, Ordering::Relaxed);
            }

            /// Of each kind, in the order of [`Counts::all`], how many were answered with each error.
            pub fn errors(&self) -> Vec<Vec<(&'static str, u64)>> {
                vec![$(self.$name.errors(),)*]
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

/// The errors that are told apart: all that the table of `errno` gives for a reason.
const ERRORS: [(Errno, &str); 8] = [
    (Errno::EIO, "EIO"),
    (Errno::ESTALE, "ESTALE"),
    (Errno::EACCES, "EACCES"),
    (Errno::ENOTDIR, "ENOTDIR"),
    (Errno::EISDIR, "EISDIR"),
    (Errno::EINVAL, "EINVAL"),
    (Errno::ENAMETOOLONG, "ENAMETOOLONG"),
    (Errno::ENODATA, "ENODATA"),
];

/// One counter.
#[derive(Debug, Default)]
pub(super) struct Count {
    all: AtomicU64,
    /// In the order of [`ERRORS`].
    errors: [AtomicU64; ERRORS.len()],
}

impl Count {
    /// Counts one request.
    pub(super) fn one(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the error with which a request was answered.
    pub(super) fn failed(&self, errno: Errno) {
        if let Some(position) = ERRORS.iter().position(|(known, _)| *known == errno) {
            self.errors[position].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Those that have happened, and EIO always: that it is 0 is worth knowing.
    fn errors(&self) -> Vec<(&'static str, u64)> {
        let counts = self.errors.iter().map(|count| count.load(Ordering::Relaxed));
        let named = ERRORS.iter().zip(counts).map(|((_, name), count)| (*name, count));
        named.filter(|(name, count)| *count > 0 || *name == "EIO").collect()
    }
}
