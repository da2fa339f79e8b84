//! The handlers: one call into the view each.
//!
//! `open`, `opendir` and `flush` are answered `ENOSYS` once; the kernel then never asks again, keeps pages and listings, and reads
//! without a handle (`FUSE_NO_OPEN_SUPPORT`, `FUSE_NO_OPENDIR_SUPPORT`, `include/uapi/linux/fuse.h`). With passthrough `open` is answered.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use tracing::trace;

use super::ahead::Ahead;
use super::ask::ask;
use super::attr::{BLOCK_BYTES, file_attr};
use super::counts::{Count, Counts};
use super::growth::Growth;
use super::kernel::Courier;
use super::passthrough::{OpenFiles, Passthrough};
use super::reply::{GENERATION, NamesReply, NamesWithAttributes, absent, sized};
use super::session::Owner;
use super::waiting::{LongRead, Waiting};
use crate::union::name::NAME_MAX;
use crate::view::{Asked, Depth, Found, Number, Superblock, View, ViewError};

/// The largest read that is asked for in one request.
const MAX_READ_BYTES: u32 = 1024 * 1024;

/// The views of a superblock as the FUSE library wants them.
#[derive(Debug)]
pub(super) struct Filesystem {
    views: Arc<Superblock>,
    owner: Owner,
    counts: Arc<Counts>,
    waiting: Waiting,
    /// Where the kernel is given large files to read by itself: the depth of file systems, and what is open.
    passthrough: Option<(u32, Arc<OpenFiles>)>,
    /// Where small files can be given to the kernel before it asks.
    ahead: Option<Ahead>,
    growth: Growth,
}

impl Filesystem {
    pub(super) fn new(
        views: Arc<Superblock>,
        owner: Owner,
        counts: Arc<Counts>,
        passthrough: Option<Passthrough>,
        courier: Option<Courier>,
    ) -> Self {
        let passthrough = passthrough.map(Passthrough::begin);
        let growth = Growth::new(owner, courier.clone());
        let ahead = courier.map(|courier| Ahead::new(views.clone(), counts.clone(), courier));
        Self { views, owner, counts, waiting: Waiting::default(), passthrough, ahead, growth }
    }

    /// The view that a node belongs to.
    fn view(&self, ino: INodeNo) -> Asked<'_> {
        // No view knows a number that is too large.
        self.views.of(Number(u32::try_from(ino.0).unwrap_or_default()))
    }

    /// The answer to every request that would write. They come only where root remounted the view writable.
    fn read_only(&self) -> Errno {
        self.counts.write.one();
        Errno::EROFS
    }

    fn ask<T>(
        &self,
        count: &Count,
        ino: INodeNo,
        question: impl FnOnce(&View, Number) -> Result<T, ViewError>,
    ) -> Result<T, Errno> {
        ask(&self.view(ino), ino, question).inspect_err(|errno| count.failed(*errno))
    }
}

/// Handlers of requests that would write: each refuses, whatever it is given.
macro_rules! refuse {
    ($($name:ident($($argument:ty),*) -> $reply:ty;)*) => {
        $(fn $name(&self, _request: &Request, $(_: $argument,)* reply: $reply) {
            reply.error(self.read_only());
        })*
    };
}

/// Capabilities that are asked for where the kernel has them.
const CAPABILITIES: [InitFlags; 8] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_MAX_PAGES,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_PARALLEL_DIROPS,
];

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if let Err(missing) = config.add_capabilities(capability) {
                tracing::debug!(?missing, "the kernel lacks a FUSE capability");
            }
        }
        if let Some((stack_depth, _)) = &self.passthrough {
            let asked = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
                && config.set_max_stack_depth(*stack_depth).is_ok();
            if !asked {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        // An error names the nearest value that is allowed.
        let wanted = config.set_max_write(MAX_READ_BYTES);
        let wanted = wanted.or_else(|allowed| config.set_max_write(allowed));
        let readahead = config.set_max_readahead(MAX_READ_BYTES);
        let readahead = readahead.or_else(|allowed| config.set_max_readahead(allowed));
        tracing::debug!(?wanted, ?readahead, "sizes agreed with the kernel");
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let view = self.view(parent);
        let _answering = view.answering();
        self.counts.lookup.one();
        trace!(parent = parent.0, ?name, "lookup");
        match self
            .ask(&self.counts.lookup, parent, |view, parent| view.lookup(parent, name.as_bytes()))
        {
            Ok(Found::Present { attr, attr_lifetime, name_lifetime }) => {
                let (attr, attr_lifetime) = self.growth.named(attr, attr_lifetime);
                reply.entry_with_ttls(
                    &attr_lifetime.duration(),
                    &name_lifetime.duration(),
                    &file_attr(&attr, self.owner),
                    GENERATION,
                );
            }
            Ok(Found::Absent(lifetime)) => absent(reply, lifetime.duration(), self.owner),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.counts.forget.one();
        trace!(ino = ino.0, count, "forget");
        if let Ok(number) = u32::try_from(ino.0) {
            self.views.forget(Number(number), count);
            self.growth.forget(Number(number));
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let view = self.view(ino);
        let _answering = view.answering();
        self.counts.getattr.one();
        trace!(ino = ino.0, "getattr");
        match self.ask(&self.counts.getattr, ino, View::attr) {
            Ok((attr, lifetime)) => self.growth.answer(&self.waiting, (attr, lifetime), reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let view = self.view(ino);
        let _answering = view.answering();
        self.counts.readlink.one();
        trace!(ino = ino.0, "readlink");
        match self.ask(&self.counts.readlink, ino, View::read_link) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counts.open.one();
        trace!(ino = ino.0, "open");
        match &self.passthrough {
            None => reply.error(Errno::ENOSYS),
            Some((_, files)) => {
                files.open(&self.view(ino), &self.counts, &self.waiting, ino, reply);
            }
        }
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _is_flushed: bool,
        reply: ReplyEmpty,
    ) {
        self.counts.other.one();
        let files = self.passthrough.as_ref();
        let released = files.and_then(|(_, files)| files.release(ino, handle));
        reply.ok();
        drop(released);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.counts.read.one();
        trace!(ino = ino.0, offset, size, "read");
        let len = size as usize;
        let at_hand =
            self.ask(&self.counts.read, ino, |view, number| view.read_at_hand(number, offset, len));
        match at_hand {
            Ok(Some(bytes)) => {
                if let Some(ahead) = self.ahead.as_ref().filter(|_| offset == 0) {
                    ahead.is_read(ino, bytes.len());
                }
                reply.data(&bytes);
            }
            Ok(None) => {
                let read = LongRead { ino, offset, len };
                self.waiting.read(&self.view(ino), &self.counts, read, reply);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counts.opendir.one();
        trace!(ino = ino.0, "opendir");
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let view = self.view(ino);
        let _answering = view.answering();
        self.counts.readdir.one();
        trace!(ino = ino.0, offset, "readdir");
        let mut names = NamesReply(reply);
        match self.ask(&self.counts.readdir, ino, |view, number| {
            view.list(number, offset, Depth::Names, &mut names)
        }) {
            Ok(()) => names.0.ok(),
            Err(errno) => names.0.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let view = self.view(ino);
        let _answering = view.answering();
        self.counts.readdirplus.one();
        trace!(ino = ino.0, offset, "readdirplus");
        let growth = &self.growth;
        let mut names = NamesWithAttributes { reply, owner: self.owner, growth, has_any: false };
        let answer = self.ask(&self.counts.readdirplus, ino, |view, number| {
            view.list(number, offset, Depth::Attributes, &mut names)
        });
        match answer {
            Ok(()) => names.reply.ok(),
            // What was already counted must reach the kernel, or it would never be taken back.
            Err(_) if names.has_any => names.reply.ok(),
            Err(errno) => names.reply.error(errno),
        }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.counts.statfs.one();
        let name_bytes = u32::try_from(NAME_MAX).unwrap_or(u32::MAX);
        reply.statfs(0, 0, 0, 0, 0, BLOCK_BYTES, name_bytes, BLOCK_BYTES);
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let view = self.view(ino);
        let _answering = view.answering();
        self.counts.getxattr.one();
        match self
            .ask(&self.counts.getxattr, ino, |view, number| view.xattr(number, name.as_bytes()))
        {
            Ok(value) => sized(reply, &value, size),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.counts.listxattr.one();
        match self.ask(&self.counts.listxattr, ino, |view, _| view.listed_xattrs()) {
            Ok(()) => sized(reply, b"", size),
            Err(errno) => reply.error(errno),
        }
    }

    fn access(&self, _request: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.counts.access.one();
        if mask.contains(AccessFlags::W_OK) {
            reply.error(Errno::EROFS);
        } else {
            // The kernel checks permissions itself from here on.
            reply.error(Errno::ENOSYS);
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        self.counts.lseek.one();
        // No file has holes; the kernel knows how to seek in such files and does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.counts.other.one();
        reply.error(Errno::ENOSYS);
    }

    refuse! {
        setattr(INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>,
            Option<TimeOrNow>, Option<SystemTime>, Option<FileHandle>, Option<SystemTime>,
            Option<SystemTime>, Option<SystemTime>, Option<BsdFileFlags>) -> ReplyAttr;
        mknod(INodeNo, &OsStr, u32, u32, u32) -> ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) -> ReplyEntry;
        unlink(INodeNo, &OsStr) -> ReplyEmpty;
        rmdir(INodeNo, &OsStr) -> ReplyEmpty;
        symlink(INodeNo, &OsStr, &Path) -> ReplyEntry;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) -> ReplyEmpty;
        link(INodeNo, INodeNo, &OsStr) -> ReplyEntry;
        create(INodeNo, &OsStr, u32, u32, i32) -> ReplyCreate;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) -> ReplyEmpty;
        removexattr(INodeNo, &OsStr) -> ReplyEmpty;
        fallocate(INodeNo, FileHandle, u64, u64, i32) -> ReplyEmpty;
        write(INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags,
            Option<LockOwner>) -> ReplyWrite;
    }
}
