//! Views that share a superblock: it is mounted at a place that nobody else can reach, and each view is bound from there.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tracing::{info, warn};

use crate::config::resolved::{Access, AllowOther, Links};
use crate::daemon::DaemonError;
use crate::daemon::attach::{connection, owner, raise_read_ahead};
use crate::daemon::courier;
use crate::daemon::kept_by::KeptBy;
use crate::daemon::start::Plan;
use crate::fuse::{
    self, Agreed, Beginning, Counts, Courier, KernelCache, Owner, Passthrough, Served, Serving,
};
use crate::machine::bind::keep_apart;
use crate::machine::mount::{MountRequest, mount_over};
use crate::machine::passthrough::StackDepth;
use crate::machine::stale::detach;
use crate::machine::{connections, user};
use crate::snapshot::Snapshot;
use crate::union::name::Name;
use crate::view::{self, Journal, Number, Settings, StillOpen, Superblock, View};

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

    /// Whether there is one view only.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { links: self.links, has_xattrs: self.alone.is_some() }
    }

    /// How a superblock with these is served.
    fn serving<'a>(
        &self,
        courier: Option<Courier>,
        beginning: Beginning<'a>,
        (journal, left): (Option<Arc<Journal>>, Vec<(Number, StillOpen)>),
    ) -> Serving<'a> {
        let depth = self.passthrough.map(|StackDepth(stack_depth)| stack_depth);
        let passthrough = depth.map(|stack_depth| Passthrough { stack_depth, journal, left });
        Serving { owner: self.owner, passthrough, beginning, courier }
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
pub(super) struct Mounting {
    /// A new directory, which nobody else can reach.
    pub(super) place: PathBuf,
    /// What the kernel lists as the source.
    pub(super) source: PathBuf,
    /// Whether nothing in it may be executed.
    pub(super) forbids_execution: bool,
    /// Who keeps it for the next worker, if anybody does.
    pub(super) keeper: Option<Arc<KeptBy>>,
}

/// A view that is put into a superblock.
pub(super) struct First<'a> {
    pub(super) name: &'a Name,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) archive: Option<Arc<dyn view::Archive>>,
    /// For the next worker.
    pub(super) note: &'a [u8],
    /// Where there is room for a journal.
    pub(super) state_dir: &'a Path,
}

impl Group {
    /// Mounts a superblock for views with these traits, and puts the first of them in.
    pub(super) fn mount(
        traits: &Traits,
        mounting: Mounting,
        first: First<'_>,
    ) -> Result<(Self, Arc<View>), DaemonError> {
        let place = mounting.place.clone();
        let failed = |error| DaemonError::Views { path: place.clone(), error };
        DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
        let mounted = mount_over(&MountRequest {
            mountpoint: place.clone(),
            source_name: mounting.source.clone().into_os_string(),
            allow_other: traits.is_for_others,
            default_permissions: true,
            forbids_execution: mounting.forbids_execution,
        })?;
        let group = Self::serve_first(traits, mounting, mounted.fd, first);
        group.inspect_err(|_| {
            detach(&place).unwrap_or_default();
            fs::remove_dir(&place).unwrap_or_default();
        })
    }

    fn serve_first(
        traits: &Traits,
        mounting: Mounting,
        device: OwnedFd,
        First { name, snapshot, archive, note, state_dir }: First<'_>,
    ) -> Result<(Self, Arc<View>), DaemonError> {
        let keep = |keeper: &Arc<KeptBy>| {
            let lost = |error: &DaemonError| warn!(%error, "it ends with this process");
            keeper.keep(&device, state_dir).inspect_err(lost).ok()
        };
        let (journal, courier) = mounting.keeper.as_ref().and_then(keep).unzip();
        let courier = courier.or_else(|| courier::beside(&device));
        let (superblock, only) = if traits.alone.is_some() {
            let settings = traits.settings();
            let view = View::start(snapshot.clone(), settings, archive.clone(), journal.clone());
            let view = Arc::new(view);
            view.note_place(name, note);
            (Superblock::only(view.clone()), Some(view))
        } else {
            (Superblock::of_many(traits.settings(), journal.clone()), None)
        };
        let beginning = journal.as_deref().map_or(Beginning::First, Beginning::Recorded);
        let serving = traits.serving(courier, beginning, (journal.clone(), Vec::new()));
        let group = Self::serve(traits, mounting.place, Arc::new(superblock), device, serving)?;
        raise_read_ahead(group.connection);
        keep_apart(&group.place)?;
        let view = match only {
            Some(view) => view,
            None => group.superblock.add(name, snapshot, archive, note)?,
        };
        Ok((group, view))
    }

    /// Goes on with a superblock that a worker before has served, with all its views.
    pub(super) fn resume(
        traits: &Traits,
        place: PathBuf,
        superblock: Superblock,
        (device, courier, agreed): (OwnedFd, Courier, Agreed<'_>),
        (journal, left): (Arc<Journal>, Vec<(Number, StillOpen)>),
    ) -> Result<Self, DaemonError> {
        let beginning = Beginning::TakenOver(agreed);
        let serving = traits.serving(Some(courier), beginning, (Some(journal), left));
        Self::serve(traits, place, Arc::new(superblock), device, serving)
    }

    fn serve(
        traits: &Traits,
        place: PathBuf,
        superblock: Arc<Superblock>,
        device: OwnedFd,
        serving: Serving<'_>,
    ) -> Result<Self, DaemonError> {
        let served = fuse::serve(superblock.clone(), device, serving)?;
        let (kernel, counts) = (served.kernel.clone(), served.counts.clone());
        let (traits, connection) = (traits.clone(), connection(&place));
        Ok(Self { traits, kernel, counts, members: 0, superblock, served, place, connection })
    }

    /// Puts another view in.
    pub(super) fn add(&self, first: First<'_>) -> Result<Arc<View>, DaemonError> {
        let First { name, snapshot, archive, note, .. } = first;
        Ok(self.superblock.add(name, snapshot, archive, note)?)
    }

    /// Where it is mounted.
    pub(super) fn place(&self) -> &Path {
        &self.place
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
        self.superblock.sweep(&self.kernel);
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
