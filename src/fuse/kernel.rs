//! What a flip tells the kernel.

use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::view::{Kernel, Number};

/// The kernel's side of a mounted view.
#[derive(Debug, Clone)]
pub struct KernelCache(Notifier);

impl KernelCache {
    pub(super) fn new(notifier: Notifier) -> Self {
        Self(notifier)
    }
}

impl Kernel for KernelCache {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        let name = OsStr::from_bytes(name);
        check(&self.0.inval_entry(INodeNo(u64::from(directory.0)), name));
    }

    fn forget_listing(&self, directory: Number) {
        check(&self.0.inval_inode(INodeNo(u64::from(directory.0)), 0, 0));
    }
}

/// What the kernel does not know it need not forget; a mount that is gone has nothing to forget.
fn check(outcome: &io::Result<()>) {
    match outcome.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) | Err(Some(libc::ENOENT | libc::ENOTCONN | libc::ENODEV)) => {}
        Err(_) => tracing::warn!(?outcome, "the kernel did not take a notification"),
    }
}
