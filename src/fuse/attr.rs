//! Attributes in the protocol's form.

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
    let modified = attr.modified_at();
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
