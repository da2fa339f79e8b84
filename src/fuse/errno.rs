//! The errno table: which error number a caller of the view gets, and what is logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::Errno;
use tracing::warn;

use crate::view::ViewError;

/// At most this many warnings about unreadable objects are written in one second.
const WARNINGS_PER_SECOND: u64 = 10;

/// The error number for a view's error. What nobody could expect is `EIO` and one warning.
pub(super) fn errno(error: &ViewError) -> Errno {
    match error {
        ViewError::Stale => Errno::ESTALE,
        ViewError::NotADirectory => Errno::ENOTDIR,
        ViewError::IsADirectory => Errno::EISDIR,
        ViewError::NotALink => Errno::EINVAL,
        ViewError::Denied => Errno::EACCES,
        ViewError::NameTooLong => Errno::ENAMETOOLONG,
        ViewError::NoAttribute => Errno::ENODATA,
        ViewError::AttributesOff => Errno::ENOSYS,
        ViewError::DirectoryTooLarge
        | ViewError::NumbersUsedUp
        | ViewError::Lost { .. }
        | ViewError::Unreadable { .. } => {
            if is_due() {
                warn!(%error, "a read failed with EIO");
            }
            Errno::EIO
        }
    }
}

/// Whether a line about a failed request may be written: this second has not had its share.
pub(super) fn is_due() -> bool {
    /// The second in the upper bits, how many warnings it had in the lower eight.
    static WINDOW: AtomicU64 = AtomicU64::new(0);
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let next = |window: u64| {
        if window >> 8 != second {
            return Some(second << 8 | 1);
        }
        (window & 0xff < WARNINGS_PER_SECOND).then_some(window + 1)
    };
    WINDOW.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}
