//! Views that share a superblock: it is mounted at a place that nobody else can reach, and each view is bound from there.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tracing::{info, warn};

use crate::config::resolved::{Access, AllowOther, Links};
use crate::daemon::DaemonError;
use crate::daemon::attach::{connection, owner, raise_read_ahead};
use crate::daemon::courier;
use crate::daemon::start::Plan;
use crate::fuse::{self, Counts, KernelCache, Owner, Passthrough, Served, Serving};
use crate::machine::bind::keep_apart;
use crate::machine::mount::{MountRequest, mount_over};
use crate::machine::passthrough::StackDepth;
use crate::machine::stale::detach;
use crate::machine::{connections, user};
use crate::snapshot::Snapshot;
use crate::union::name::Name;
use crate::view::{self, Settings, Superblock, View};

/// What views of one superblock have in common (S92).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traits {
    owner: Owner,
    links: Links,
    access: Access,
    is_for_others: bool,
    /// Whether the kernel reads large files by itself.
    passthrough: Option<StackDepth>,
    /// The only file whose view may be in it: what extended attributes say of a file depends on the view.
    alone: Option<PathBuf>,
}

impl Traits {
    /// What a configuration asks for.
    pub(super) fn of(plan: &Plan, file: &Path) -> Self {
        let config = &plan.config;
        let is_for_others = match config.mount.allow_other {
            AllowOther::Auto => user::may_allow_other(),
            AllowOther::Yes => true,
            AllowOther::No => false,
        };
        Self {
            owner: owner(config),
            links: config.mount.links,
            access: config.access,
            is_for_others,
            passthrough: plan.passthrough,
            alone: config.mount.has_xattrs.then(|| file.to_owned()),
        }
    }

    fn settings(&self) -> Settings {
        Settings { links: self.links, has_xattrs: self.alone.is_some() }
    }
}

/// A superblock that is mounted, and how many views it has.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) traits: Traits,
    pub(super) kernel: KernelCache,
    pub(super) counts: Arc<Counts>,
    pub(super) members: usize,
    superblock: Arc<Superblock>,
    served: Served,
    place: PathBuf,
    connection: Option<u32>,
}

/// Where superblocks are mounted, and how.
#[derive(Debug, Clone)]
pub(super) struct Mounting {
    /// A new directory, which nobody else can reach.
    pub(super) place: PathBuf,
    /// What the kernel lists as the source.
    pub(super) source: PathBuf,
    /// Whether nothing in it may be executed.
    pub(super) forbids_execution: bool,
}

impl Group {
    /// Mounts a superblock for views with these traits, and puts the first of them in.
    pub(super) fn mount(
        traits: &Traits,
        mounting: Mounting,
        name: &Name,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn view::Archive>>,
    ) -> Result<(Self, Arc<View>), DaemonError> {
        let (superblock, only) = if traits.alone.is_some() {
            let view =
                Arc::new(View::start(snapshot.clone(), traits.settings(), archive.clone(), None));
            (Superblock::only(view.clone()), Some(view))
        } else {
            (Superblock::of_many(traits.settings()), None)
        };
        let superblock = Arc::new(superblock);
        let Mounting { place, source, forbids_execution } = mounting;
        let failed = |error| DaemonError::Views { path: place.clone(), error };
        DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
        let mounted = mount_over(&MountRequest {
            mountpoint: place.clone(),
            source_name: source.into_os_string(),
            allow_other: traits.is_for_others,
            default_permissions: true,
            forbids_execution,
        })?;
        let courier = courier::beside(&mounted.fd);
        let passthrough =
            traits.passthrough.map(|StackDepth(stack_depth)| Passthrough { stack_depth });
        let serving = Serving { passthrough, courier, ..Serving::alone(traits.owner) };
        let served = fuse::serve(superblock.clone(), mounted.fd, serving)
            .inspect_err(|_| detach(&place).unwrap_or_default())?;
        let (kernel, counts) = (served.kernel.clone(), served.counts.clone());
        let connection = connection(&place);
        let traits = traits.clone();
        let group =
            Self { traits, kernel, counts, members: 0, superblock, served, place, connection };
        raise_read_ahead(&group.place);
        let view = keep_apart(&group.place).map_err(DaemonError::from).and_then(|()| match only {
            Some(view) => Ok(view),
            None => Ok(group.superblock.add(name, snapshot, archive)?),
        });
        match view {
            Ok(view) => Ok((group, view)),
            Err(error) => {
                group.detach();
                Err(error)
            }
        }
    }

    /// Puts another view in.
    pub(super) fn add(
        &self,
        name: &Name,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn view::Archive>>,
    ) -> Result<Arc<View>, DaemonError> {
        Ok(self.superblock.add(name, snapshot, archive)?)
    }

    /// Takes a view out; who holds it is served on.
    pub(super) fn remove(&self, name: &Name, view: &View) {
        self.superblock.remove(name, view, &self.kernel);
    }

    /// Where a view is to be bound from.
    pub(super) fn path_of(&self, name: &Name) -> PathBuf {
        if self.traits.alone.is_some() {
            return self.place.clone();
        }
        self.place.join(OsStr::from_bytes(name.as_bytes()))
    }

    /// Lets go of views that nobody holds any more.
    pub(super) fn sweep(&self) {
        self.superblock.sweep();
    }

    /// Takes the superblock itself away. It ends when nobody holds a view of it any more.
    pub(super) fn detach(&self) {
        // One whose connection was aborted is mounted still; one that somebody unmounted is not.
        if let Err(error) = detach(&self.place)
            && !self.served.has_ended()
        {
            warn!(%error, "a superblock could not be detached");
        }
        fs::remove_dir(&self.place).unwrap_or_default();
    }

    /// True once nobody holds it any more, or its connection was aborted.
    pub(super) fn has_ended(&self) -> bool {
        self.served.has_ended()
    }

    /// Can be upgraded for as long as the kernel is answered.
    pub(super) fn alive(&self) -> Weak<()> {
        self.served.alive.clone()
    }

    /// Cuts off whoever holds it.
    pub(super) fn abort(&self) {
        let Some(connection) = self.connection else { return };
        info!(connection, "still held: aborting the connection");
        if let Err(error) = connections::abort(connection) {
            warn!(%error, "the connection cannot be aborted");
        }
    }
}
