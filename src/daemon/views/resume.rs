//! Going on with the superblocks and views of a worker that was killed.
//!
//! Each superblock has a journal. It says which views were in it, where each was bound, and what its configuration was; what they showed is made
//! again from the sets that are kept. What cannot be gone on with is given up, and mounted anew by the look that follows.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::group::{Group, Slot, Traits};
use super::holdings::BoundAs;
use super::member::{Joining, Means, Place, ShownView};
use super::note::Note;
use super::reading::Read;
use super::show::open_archive;
use super::{Daemon, State};
use crate::daemon::DaemonError;
use crate::daemon::courier::of_keeper;
use crate::daemon::opening::Caches;
use crate::daemon::update::KEPT_SETS;
use crate::fuse::{self, Agreed};
use crate::machine::courier::Courier;
use crate::machine::descriptor;
use crate::machine::keeper::Handed;
use crate::machine::mountinfo::MountTable;
use crate::snapshot::Snapshot;
use crate::sync::archive::PATIENCE;
use crate::union::name::Name;
use crate::union::revision::RevisionSetId;
use crate::view::{self, Handshake, Journal, Kept, Past, PastView, Superblock, View};

/// A superblock that a worker before has served, and what it wrote down of it.
pub(super) struct Left {
    device: OwnedFd,
    courier: Courier,
    pub(super) past: Past,
    journal: Journal,
}

impl Left {
    /// Reads what was written down of all that was handed over.
    pub(super) fn read_all(handed: Vec<Handed>) -> Result<Vec<Self>, DaemonError> {
        let read = |Handed { device, journal, courier }| {
            let (past, journal) = Past::read(journal).map_err(DaemonError::journal)?;
            Ok(Self { device, courier, past, journal })
        };
        handed.into_iter().map(read).collect()
    }
}

/// The threads of a worker of many views: for signals, mounts, notices, the keeper, pins that are let go of, and who asks a control socket.
const OWN_THREADS: usize = 6;
/// Those of a view: for updates and its control socket.
const THREADS_OF_A_VIEW: usize = 2;

impl Left {
    /// How many threads those need who go on with all that was left.
    pub(super) fn threads(all: &[Self]) -> usize {
        let views: usize = all.iter().map(|left| left.past.views().count()).sum();
        OWN_THREADS + all.len() * fuse::threads() + views * THREADS_OF_A_VIEW
    }
}

/// A view that is gone on with.
struct Returning {
    note: Note,
    read: Read,
    caches: Caches,
    snapshot: Snapshot,
    kept: Vec<Kept>,
    mount_id: u64,
}

impl Daemon {
    /// Goes on with what a worker before has served.
    pub(super) fn resume(
        &mut self,
        left: Vec<Left>,
        is_to_refuse: bool,
    ) -> Result<(), DaemonError> {
        let mut lost = Vec::new();
        for left in left {
            self.resume_one(left, is_to_refuse, &mut lost)?;
        }
        // Only now: who mounts may wait for an answer of any of them.
        for file in lost {
            self.privileged.unbind(&file);
        }
        let numbers: Vec<_> = self.groups.iter().map(Group::number).collect();
        self.privileged.clear(&numbers)?;
        info!(dir = %self.plan.dir.display(), views = self.shown(), "took the views over");
        Ok(())
    }

    fn resume_one(
        &mut self,
        Left { device, courier, past, journal }: Left,
        is_to_refuse: bool,
        lost: &mut Vec<PathBuf>,
    ) -> Result<(), DaemonError> {
        let Some(Handshake { request, reply }) = past.handshake().cloned() else {
            // Nobody was answered yet.
            self.abandon(&device);
            return Ok(());
        };
        let table = MountTable::read()?;
        let mut returning = HashMap::new();
        let mut traits: Option<Traits> = None;
        for view in past.views() {
            let Some((found, its_traits)) = self.returning(view, &table, lost) else { continue };
            if traits.get_or_insert_with(|| its_traits.clone()) == &its_traits {
                returning.insert(view.name().to_vec(), found);
            }
        }
        let (Some(traits), Some(first)) = (traits, returning.values().next()) else {
            warn!("a superblock without a view that can be shown is given up");
            self.abandon(&device);
            return Ok(());
        };
        let path = first.note.place.clone();
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let slot = Slot { number: number.unwrap_or_default(), path };
        let (left, journal) = (past.still_open(), Arc::new(journal));
        let past = (past, journal.clone());
        let (superblock, returned) = return_all(&traits, past, returning);
        let agreed = Agreed { request: &request, reply: &reply, is_to_refuse };
        let served = (device, of_keeper(courier), agreed);
        let group =
            Group::resume(&traits, slot, superblock, served, (journal, left)).map_err(|error| {
                // The next worker may have what lacks now.
                if error.is_momentary() {
                    return error;
                }
                DaemonError::Resume { reason: error.to_string() }
            })?;
        self.groups.push(group);
        for (name, view, returning) in returned {
            self.go_on(&traits, name, view, returning)?;
        }
        Ok(())
    }

    /// What there is to show a view again, if it is still there.
    fn returning(
        &mut self,
        view: &PastView,
        table: &MountTable,
        given_up: &mut Vec<PathBuf>,
    ) -> Option<(Returning, Traits)> {
        let note = Note::parse(view.note()).filter(|note| note.is_bound)?;
        let ours = table.ours().find(|mount| mount.mountpoint == note.place)?.minor;
        let Some(mount_id) =
            table.at(&note.at).find(|mount| mount.minor == ours).map(|mount| mount.id)
        else {
            self.base.note_unmounted(&note.file);
            return None;
        };
        let was_bound = BoundAs { mount_id, made: note.made.clone() };
        self.privileged.adopt(&note.file, &note.at, was_bound);
        let mut lost = |what: &str| {
            warn!(file = %note.file.display(), what, "the view is mounted anew: who holds it gets errors");
            given_up.push(note.file.clone());
            None
        };
        let Some(read) = self.plan.earlier_plan(&note, view) else {
            return lost("its configuration was not written down");
        };
        let (mut caches, Some(shown)) = (self.caches(&read.plan), view.shown()) else {
            return lost("what it showed was not written down");
        };
        let config = &read.plan.config;
        let Some(archive) = open_archive(&mut caches, &note.file, config) else {
            return lost("`state.dir` cannot be used");
        };
        let left = caches.left.clone().unwrap_or_default();
        let kept = archive.load(&caches.pins, &left, config, KEPT_SETS);
        let snapshot = match archive.recall_whole(&RevisionSetId(shown.id), PATIENCE) {
            Ok(snapshot) => snapshot,
            Err(cause) => return lost(&cause),
        };
        let traits = Traits::of(&read.plan, &note.file);
        Some((Returning { note, read, caches, snapshot, kept, mount_id }, traits))
    }

    fn go_on(
        &mut self,
        traits: &Traits,
        name: Name,
        view: Arc<View>,
        returning: Parts,
    ) -> Result<(), DaemonError> {
        let Parts { note, read: Read { plan, text }, caches, mount_id } = returning;
        view.note_configuration(&text);
        let group = self
            .groups
            .last_mut()
            .ok_or_else(|| DaemonError::Resume { reason: "there is no superblock".to_owned() })?;
        let fetching = self.fetchers.fetch(&plan.config)?;
        let (reload, keeper) = (self.events.reload(&note.file), self.keeper.clone());
        let means = Means { reload, fetching, keeper, caches, wish: self.events.wish() };
        let place = Place { name, view, number: group.number() };
        let joining = Joining { plan, traits: traits.clone(), place, means };
        let shown = ShownView::resume(joining, group, mount_id)?;
        group.members += 1;
        self.directory.remember(&note.file);
        self.views.insert(note.file, State::Shown(Box::new(shown)));
        Ok(())
    }

    /// Ends a connection that nobody goes on with. What is bound from it is taken away with all that a worker has left.
    fn abandon(&mut self, device: &OwnedFd) {
        if let Some(connection) = descriptor::connection(device)
            && let Err(error) = self.privileged.abort(connection)
        {
            warn!(%error, "a connection could not be aborted");
        }
    }

    /// Remembers which views somebody has unmounted.
    pub(super) fn remember_unmounted(&mut self, files: &[PathBuf]) {
        for file in files {
            if !self.views.contains_key(file) && self.base.was_unmounted(file) {
                self.directory.know(file);
                self.views.insert(file.clone(), State::Unmounted);
            }
        }
    }
}

/// What is left of a view that returns once it is in its superblock.
struct Parts {
    note: Note,
    read: Read,
    caches: Caches,
    mount_id: u64,
}

/// Puts the views that return into their superblock; the others have left.
fn return_all(
    traits: &Traits,
    (past, journal): (Past, Arc<Journal>),
    mut returning: HashMap<Vec<u8>, Returning>,
) -> (Superblock, Vec<(Name, Arc<View>, Parts)>) {
    let settings = traits.settings();
    let split = |returning: Returning| {
        let Returning { note, read, caches, snapshot, kept, mount_id } = returning;
        let archive = caches.archive.clone().map(|archive| archive as Arc<dyn view::Archive>);
        (snapshot, kept, archive, Parts { note, read, caches, mount_id })
    };
    let mut returned = Vec::new();
    if traits.is_alone() {
        if let Some((name, found)) = returning.drain().next()
            && let Ok(name) = Name::new(&name)
        {
            let (snapshot, kept, archive, parts) = split(found);
            let view = View::resume(snapshot, settings, archive, kept, (past, journal));
            let view = Arc::new(view);
            returned.push((name, view.clone(), parts));
            return (Superblock::only(view), returned);
        }
        return (Superblock::of_many(settings, Some(journal)), returned);
    }
    let (superblock, views) = Superblock::resume(settings, (past, journal));
    for view in views {
        let Some(found) = returning.remove(view.name()) else {
            superblock.give_up(&view);
            continue;
        };
        let (snapshot, kept, archive, parts) = split(found);
        let name = Name::new(view.name());
        if let (Ok(name), Ok(view)) = (name, superblock.return_view(view, snapshot, archive, kept))
        {
            returned.push((name, view, parts));
        }
    }
    (superblock, returned)
}
