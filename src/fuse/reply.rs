//! Replies that take more than one call.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{
    Errno, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr,
};

use super::attr::{file_attr, file_type};
use super::growth::Growth;
use super::session::Owner;
use crate::union::object::Kind;
use crate::view::{Attr, Number, Offered, Sink};

/// Numbers are never given out twice, so that one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// The size that a listing gives to what has attributes that cannot be read: none that a file can have, so that the kernel takes the name,
/// gives the look-up back, and leaves alone what it knows of the node (`fuse_direntplus_link` and `fuse_invalid_attr`, `fs/fuse`). With any
/// other size whoever reads the file at that moment would get as many zeros from a page that is kept, or an empty file.
const UNREADABLE_BYTES: u64 = u64::MAX;

/// Answers that a name leads to nothing, in the form that the kernel keeps: an entry with node 0 (`fuse_lookup_name`,
/// `fs/fuse/dir.c`); with no lifetime plainly `ENOENT`.
pub(super) fn absent(reply: ReplyEntry, lifetime: Duration, owner: Owner) {
    if lifetime.is_zero() {
        return reply.error(Errno::ENOENT);
    }
    let nothing =
        Attr { number: Number(0), kind: Kind::Directory, size_bytes: 0, modified: (0, 0) };
    reply.entry_with_ttls(&lifetime, &lifetime, &file_attr(&nothing, owner), GENERATION);
}

/// Answers an extended attribute: its length when asked with size 0, its value where that fits.
pub(super) fn sized(reply: ReplyXattr, value: &[u8], size: u32) {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}

/// A listing with names, numbers and types.
pub(super) struct NamesReply(pub(super) ReplyDirectory);

impl Sink for NamesReply {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let ino = INodeNo(u64::from(offered.attr.number.0));
        let kind = file_type(offered.attr.kind);
        !self.0.add(ino, offered.next_offset, kind, OsStr::from_bytes(offered.name))
    }
}

/// A listing with attributes.
pub(super) struct NamesWithAttributes<'a> {
    pub(super) reply: ReplyDirectoryPlus,
    pub(super) owner: Owner,
    /// What knows of live files that grow.
    pub(super) growth: &'a Growth,
    /// Whether any name was taken.
    pub(super) has_any: bool,
}

impl Sink for NamesWithAttributes<'_> {
    fn take(&mut self, mut offered: Offered<'_>) -> bool {
        (offered.attr, offered.attr_lifetime) =
            self.growth.named(offered.attr, offered.attr_lifetime);
        let mut attr = file_attr(&offered.attr, self.owner);
        if offered.is_unreadable {
            attr.size = UNREADABLE_BYTES;
        }
        // One lifetime is all that the library takes here: the shorter of the two is right for both.
        let lifetime = offered.attr_lifetime.duration().min(offered.name_lifetime.duration());
        let name = OsStr::from_bytes(offered.name);
        let is_full =
            self.reply.add(attr.ino, offered.next_offset, name, &lifetime, &attr, GENERATION);
        self.has_any |= !is_full;
        !is_full
    }
}
