//! Views that share a superblock: it is mounted at a place that nobody else can reach, and each view is bound from there.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tracing::warn;

use crate::config::resolved::{Access, AllowOther, Config, Links};
use crate::daemon::DaemonError;
use crate::daemon::attach::{connection, owner};
use crate::daemon::courier;
use crate::daemon::kept_by::KeptBy;
use crate::daemon::start::Plan;
use crate::fuse::{
    self, Agreed, Beginning, Counts, Courier, KernelCache, Owner, Passthrough, Served, Serving,
    SessionError,
};
use crate::machine::passthrough::StackDepth;
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
        Self {
            owner: owner(config),
            links: config.mount.links,
            access: config.access,
            is_for_others: is_for_others(config),
            passthrough: plan.passthrough,
            alone: config.mount.has_xattrs.then(|| file.to_owned()),
        }
    }

    /// Whether other users may use it.
    pub(super) fn is_for_others(&self) -> bool {
        self.is_for_others
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

/// Whether other users may use what is mounted for a configuration. Only who may mount serves many views, and may allow that.
pub(super) fn is_for_others(config: &Config) -> bool {
    match config.mount.allow_other {
        AllowOther::Auto | AllowOther::Yes => true,
        AllowOther::No => false,
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
    number: u64,
    connection: Option<u32>,
}

/// Where a superblock is mounted.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its number in the directory of superblocks.
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

/// A superblock that was just mounted.
pub(super) struct NewSuperblock {
    pub(super) slot: Slot,
    pub(super) device: OwnedFd,
    /// Who keeps it for the next worker, if anybody does.
    pub(super) keeper: Option<Arc<KeptBy>>,
}

impl NewSuperblock {
    /// Has it kept where somebody does that. Its journal then, and who writes to the kernel what may have to wait.
    fn keep(&self, state_dir: &Path) -> (Option<Arc<Journal>>, Option<Courier>) {
        let keep = |keeper: &Arc<KeptBy>| {
            let lost = |error: &DaemonError| warn!(%error, "it ends with this process");
            let connection = connection(&self.slot.path);
            keeper.keep(&self.device, connection, state_dir).inspect_err(lost).ok()
        };
        let (journal, courier) = self.keeper.as_ref().and_then(keep).unzip();
        (journal, courier.or_else(|| courier::beside(&self.device)))
    }
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

impl First<'_> {
    /// The view of a superblock that has no other.
    fn alone(&self, settings: Settings, journal: Option<Arc<Journal>>) -> Arc<View> {
        let view = View::start(self.snapshot.clone(), settings, self.archive.clone(), journal);
        view.note_place(self.name, self.note);
        Arc::new(view)
    }
}

impl Group {
    /// Serves a superblock for views with these traits, with the first of them in it.
    pub(super) fn serve_first(
        traits: &Traits,
        mounted: NewSuperblock,
        first: First<'_>,
    ) -> Result<(Self, Arc<View>), DaemonError> {
        let (journal, courier) = mounted.keep(first.state_dir);
        let settings = traits.settings();
        let only = traits.is_alone().then(|| first.alone(settings, journal.clone()));
        let superblock = match &only {
            Some(view) => Superblock::only(view.clone()),
            None => Superblock::of_many(settings, journal.clone()),
        };
        let beginning = journal.as_deref().map_or(Beginning::First, Beginning::Recorded);
        let serving = traits.serving(courier, beginning, (journal.clone(), Vec::new()));
        let NewSuperblock { slot, device, .. } = mounted;
        let group = Self::serve(traits, slot, superblock, device, serving)?;
        let view = only.map_or_else(|| group.add(first), Ok)?;
        Ok((group, view))
    }

    /// Goes on with a superblock that a worker before has served, with all its views.
    pub(super) fn resume(
        traits: &Traits,
        slot: Slot,
        superblock: Superblock,
        (device, courier, agreed): (OwnedFd, Courier, Agreed<'_>),
        (journal, left): (Arc<Journal>, Vec<(Number, StillOpen)>),
    ) -> Result<Self, DaemonError> {
        let beginning = Beginning::TakenOver(agreed);
        let serving = traits.serving(Some(courier), beginning, (Some(journal), left));
        Self::serve(traits, slot, superblock, device, serving)
    }

    fn serve(
        traits: &Traits,
        Slot { number, path }: Slot,
        superblock: Superblock,
        device: OwnedFd,
        serving: Serving<'_>,
    ) -> Result<Self, DaemonError> {
        let superblock = Arc::new(superblock);
        let served = fuse::serve(superblock.clone(), device, serving)?;
        let (kernel, counts) = (served.kernel.clone(), served.counts.clone());
        let (traits, connection) = (traits.clone(), connection(&path));
        let members = 0;
        Ok(Self { traits, kernel, counts, members, superblock, served, number, connection })
    }

    /// Puts another view in.
    pub(super) fn add(&self, first: First<'_>) -> Result<Arc<View>, DaemonError> {
        let First { name, snapshot, archive, note, .. } = first;
        Ok(self.superblock.add(name, snapshot, archive, note)?)
    }

    /// Takes a view out; who holds it is served on.
    pub(super) fn remove(&self, name: &Name, view: &View) {
        self.superblock.remove(name, view, &self.kernel);
    }

    /// Its number in the directory of superblocks.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The directory that a view is to be bound from; `None` where that is all of it.
    pub(super) fn directory_of<'a>(&self, name: &'a Name) -> Option<&'a OsStr> {
        self.traits.alone.is_none().then(|| OsStr::from_bytes(name.as_bytes()))
    }

    /// The number by which the kernel knows it.
    pub(super) fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Lets go of views that nobody holds any more. Returns how many were removed and are held still.
    pub(super) fn sweep(&self) -> usize {
        self.superblock.sweep(&self.kernel)
    }

    /// True once nobody holds it any more, or its connection was aborted.
    pub(super) fn has_ended(&self) -> bool {
        self.served.has_ended()
    }

    /// Why the kernel is not answered as it should be, although the connection may be there.
    pub(super) fn failure(&self) -> Option<SessionError> {
        self.served.failure()
    }

    /// Can be upgraded for as long as the kernel is answered.
    pub(super) fn alive(&self) -> Weak<()> {
        self.served.alive.clone()
    }
}
