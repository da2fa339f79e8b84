//! Attributes in the protocol's form.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use super::session::Owner;
use crate::union::object::Kind;
use crate::view::Attr;

/// What `st_blksize` says: reads of this size are good ones.
pub(super) const BLOCK_BYTES: u32 = 4096;

/// The same of a directory: the C library lists it with a buffer of this size (between 32 KiB and 1 MiB), and the kernel asks for one answer
/// a buffer (S110).
const LISTING_BYTES: u32 = 128 << 10;

/// The protocol's name of a type.
pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File { .. } => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

/// The protocol's form of attributes. Directories have one link, which tells `find` that the count means nothing.
pub(super) fn file_attr(attr: &Attr, owner: Owner) -> FileAttr {
    let modified = system_time(attr.modified);
    FileAttr {
        ino: INodeNo(u64::from(attr.number.0)),
        size: attr.size_bytes,
        blocks: attr.size_bytes.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: file_type(attr.kind),
        perm: attr.permissions(),
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: if attr.kind == Kind::Directory { LISTING_BYTES } else { BLOCK_BYTES },
        flags: 0,
    }
}

/// A time that the standard library can hold; what it cannot hold is the beginning of time.
fn system_time((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time =
        if seconds >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    time.and_then(|time| time.checked_add(Duration::from_nanos(u64::from(nanos))))
        .unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_out_of_range_do_not_panic() {
        assert_eq!(system_time((-1, 500_000_000)), UNIX_EPOCH - Duration::from_millis(500));
        assert_eq!(system_time((0, 7)), UNIX_EPOCH + Duration::from_nanos(7));
        for seconds in [i64::MAX, i64::MIN] {
            system_time((seconds, 999_999_999));
        }
    }
}
