//! What a flip tells the kernel.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{INodeNo, Notifier};

use super::wire::{NOTIFY_INVAL_ENTRY, NOTIFY_INVAL_INODE, NOTIFY_STORE, notification};
use crate::union::name::Name;
use crate::view::{Kernel, Number};

/// The kernel's side of a mounted view.
#[derive(Clone)]
pub struct KernelCache {
    notifier: Notifier,
    /// Who writes messages, if not this process. The kernel may let the writer wait until a request is answered that this process has yet
    /// to answer. Were this process killed meanwhile, it could not end, since nobody would answer, and no other could take its place.
    courier: Option<Courier>,
}

/// How many messages the courier gets at once: handing over a single one takes longer than the kernel needs for it.
const AT_ONCE: usize = 64;

/// Carries messages to the kernel, one after the other, and returns what the kernel said when it has done what they say; `None` if the
/// courier has ended.
pub type Courier = Arc<dyn Fn(&[u8]) -> Option<io::Result<()>> + Send + Sync>;

impl KernelCache {
    pub(super) fn new(notifier: Notifier, courier: Option<Courier>) -> Self {
        Self { notifier, courier }
    }

    fn carried(&self, message: impl FnOnce() -> Vec<u8>) -> Option<io::Result<()>> {
        self.courier.as_ref().and_then(|courier| courier(&message()))
    }
}

impl fmt::Debug for KernelCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelCache")
            .field("is_carried", &self.courier.is_some())
            .finish_non_exhaustive()
    }
}

impl Kernel for KernelCache {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        let carried = self.carried(|| message_about_name(directory, name));
        let direct = || {
            let name = OsStr::from_bytes(name);
            self.notifier.inval_entry(INodeNo(u64::from(directory.0)), name)
        };
        check(&carried.unwrap_or_else(direct));
    }

    fn forget_names(&self, directory: Number, names: &[&Name]) {
        for names in names.chunks(AT_ONCE) {
            let message = |name: &&Name| message_about_name(directory, name.as_bytes());
            match self.carried(|| names.iter().flat_map(message).collect()) {
                Some(outcome) => check(&outcome),
                None => names.iter().for_each(|name| self.forget_name(directory, name.as_bytes())),
            }
        }
    }

    fn forget_listing(&self, directory: Number) {
        let carried = self.carried(|| message_about_inode(directory));
        let direct = || self.notifier.inval_inode(INodeNo(u64::from(directory.0)), 0, 0);
        check(&carried.unwrap_or_else(direct));
    }

    fn knows(&self, number: Number) -> bool {
        let said = self.carried(|| message_about_nothing(number));
        let error = said.and_then(Result::err).and_then(|error| error.raw_os_error());
        error != Some(libc::ENOENT)
    }
}

/// `FUSE_NOTIFY_STORE` of no bytes (`struct fuse_notify_store_out`, `fuse.h`): it changes nothing, and fails for a node that the kernel does
/// not know.
fn message_about_nothing(number: Number) -> Vec<u8> {
    let body = [u64::from(number.0).to_ne_bytes(), [0; 8], [0; 8]].concat();
    notification(NOTIFY_STORE, &body)
}

/// `FUSE_NOTIFY_STORE` of all bytes of a file (`struct fuse_notify_store_out`, `fuse.h`).
pub(super) fn message_about_content(number: Number, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let head = [u64::from(number.0).to_ne_bytes(), [0; 8]].concat();
    notification(NOTIFY_STORE, &[&head[..], &len.to_ne_bytes(), &[0; 4], content].concat())
}

/// `FUSE_NOTIFY_INVAL_INODE` for all of an inode (`struct fuse_notify_inval_inode_out`, `fuse.h`).
pub(super) fn message_about_inode(number: Number) -> Vec<u8> {
    let body = [u64::from(number.0).to_ne_bytes(), [0; 8], [0; 8]].concat();
    notification(NOTIFY_INVAL_INODE, &body)
}

/// `FUSE_NOTIFY_INVAL_ENTRY` (`struct fuse_notify_inval_entry_out`, `fuse.h`).
fn message_about_name(directory: Number, name: &[u8]) -> Vec<u8> {
    // A name has at most 255 bytes.
    let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let parent = u64::from(directory.0).to_ne_bytes();
    let body = [&parent[..], &len.to_ne_bytes(), &[0; 4], name, &[0]].concat();
    notification(NOTIFY_INVAL_ENTRY, &body)
}

/// What the kernel does not know it need not forget; a mount that is gone has nothing to forget.
fn check(outcome: &io::Result<()>) {
    match outcome.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) | Err(Some(libc::ENOENT | libc::ENOTCONN | libc::ENODEV)) => {}
        Err(_) => tracing::warn!(?outcome, "the kernel did not take a notification"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_reads_them() {
        let name = message_about_name(Number(7), b"ab");
        assert_eq!(name.len(), 16 + 16 + 3);
        assert_eq!(name[..4], 35_u32.to_ne_bytes());
        assert_eq!(name[4..8], 3_i32.to_ne_bytes());
        assert_eq!(name[16..24], 7_u64.to_ne_bytes());
        assert_eq!((&name[24..28], &name[32..]), (&2_u32.to_ne_bytes()[..], &b"ab\0"[..]));
        let listing = message_about_inode(Number(7));
        assert_eq!((listing.len(), &listing[16..24]), (40, &7_u64.to_ne_bytes()[..]));
    }
}
