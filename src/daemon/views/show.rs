//! Views that come, change their place, and go, with the superblocks that they are in.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::events::{Answer, Reloaded};
use super::group::{First, Group, NewSuperblock, Slot, Traits};
use super::member::{Joining, Leave, Means, Place, ShownView};
use super::note::Note;
use super::reading::{Read, refused};
use super::{Daemon, State};
use crate::config::resolved::Config;
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::DaemonError;
use crate::daemon::fetch::Fetching;
use crate::daemon::opening::Caches;
use crate::snapshot::Snapshot;
use crate::sync::archive::Archive;
use crate::sync::build::rebuild;
use crate::sync::{BuildError, beside};
use crate::union::name::Name;
use crate::view::{self, ViewError};

impl Daemon {
    /// Shows what a plan says, in place if that is possible.
    ///
    /// What came of a change in place is said later, with an event; nothing is returned then.
    pub(super) fn follow(
        &mut self,
        file: &Path,
        Read { plan, text }: Read,
        answer: &mut Option<Answer>,
    ) -> Result<Option<ReloadReport>, ControlError> {
        let traits = Traits::of(&plan, file);
        if let Some(State::Shown(shown)) = self.views.get_mut(file) {
            let member = shown.member_mut();
            if member.plan.mountpoint == plan.mountpoint && member.traits == traits {
                let (file, trouble) = (file.to_owned(), member.trouble.clone());
                let (answer, reloaded) = (answer.take(), self.events.reloaded());
                // It may wait for a remote.
                member.updates.reload_then(move |outcome| {
                    reloaded(Reloaded { file, plan, trouble, outcome, answer });
                })?;
                return Ok(None);
            }
        }
        let revision =
            self.show(file, Read { plan, text }, traits).map_err(|error| refused(&error))?;
        let (previous, changed, changes, warnings) = Default::default();
        Ok(Some(ReloadReport { revision, previous, changed, changes, warnings }))
    }

    /// Mounts a view, in place of the one that its file said before. Returns the id of its revision set.
    fn show(&mut self, file: &Path, read: Read, traits: Traits) -> Result<String, DaemonError> {
        let mut fetching = self.fetching(file, &read.plan.config)?;
        let outcome = self.show_fetched(file, read, traits, &mut fetching);
        if outcome.is_err() {
            // It goes on beside: what is missing may come by it.
            self.awaited.extend(fetching.map(|fetching| (file.to_owned(), fetching)));
        }
        outcome
    }

    fn show_fetched(
        &mut self,
        file: &Path,
        Read { plan, text }: Read,
        traits: Traits,
        fetching: &mut Option<Fetching>,
    ) -> Result<String, DaemonError> {
        let mut caches = self.caches(&plan);
        let rebuilt = rebuild(&plan.config, &caches.shared, None, None);
        let rebuilt = rebuilt.map_err(|error| unfetched(error, fetching.as_ref()))?;
        let snapshot = beside(rebuilt.snapshot, &self.snapshots(&traits));
        let revision = snapshot.id.to_string();
        let archive = open_archive(&mut caches, file, &plan.config);
        if let Some(archive) = archive.as_ref().filter(|_| self.keeper.is_some()) {
            // The next worker makes the set again from what is written here.
            archive.keep(&snapshot, &plan.config);
        }
        // Only now: what cannot be built leaves the old view.
        if let Some(state @ State::Shown(_)) = self.views.remove(file) {
            self.leave(file, state, Leave::ForNow);
        }
        let name = name_of(file)?;
        let is_fit = |group: &Group| group.traits == traits && !group.has_ended();
        let position = self.groups.iter().position(is_fit);
        let number = position.map_or_else(|| self.base.next(), |at| self.groups[at].number());
        let place = self.base.place(number);
        let (file, at, made) = (file.to_owned(), plan.mountpoint.clone(), Vec::new());
        let note = Note { file, at, place, is_bound: false, made };
        let first = First {
            name: &name,
            snapshot,
            archive: archive.map(|archive| archive as Arc<dyn view::Archive>),
            note: &note.to_bytes(),
            state_dir: &plan.config.state.dir,
        };
        let (position, view) = if let Some(position) = position {
            (position, self.groups[position].add(first)?)
        } else {
            let is_for_others = traits.is_for_others();
            let device = self.privileged.mount(number, &note.file, &self.plan, is_for_others)?;
            let slot = Slot { number, path: note.place.clone() };
            let mounted = NewSuperblock { slot, device, keeper: self.keeper.clone() };
            let served = Group::serve_first(&traits, mounted, first);
            let (group, view) =
                served.inspect_err(|_| self.privileged.take_away(number).unwrap_or_default())?;
            self.groups.push(group);
            (self.groups.len() - 1, view)
        };
        view.note_configuration(&text);
        let file = &note.file;
        let group = &mut self.groups[position];
        let place = Place { name: name.clone(), view: view.clone(), number: group.number() };
        let (reload, keeper) = (self.events.reload(file), self.keeper.clone());
        let (fetching, wish) = (fetching.take(), self.events.wish());
        let means = Means { reload, fetching, keeper, caches, wish };
        let joining = Joining { plan, traits, place, means };
        match ShownView::start(joining, group, &note, &mut self.privileged) {
            Ok(shown) => {
                group.members += 1;
                self.base.forget_unmounted(file);
                self.views.insert(file.clone(), State::Shown(Box::new(shown)));
                Ok(revision)
            }
            Err(error) => {
                group.remove(&name, &view);
                self.retire(position);
                Err(error)
            }
        }
    }

    /// What fetches for a view: what did when it could not be shown, if its configuration is the same still.
    fn fetching(&mut self, file: &Path, config: &Config) -> Result<Option<Fetching>, DaemonError> {
        let known = self.awaited.remove(file).filter(|fetching| fetching.is_of(config));
        known.map_or_else(|| self.fetchers.fetch(config), |known| Ok(Some(known)))
    }

    /// What the views of a superblock show now.
    fn snapshots(&self, traits: &Traits) -> Vec<Arc<Snapshot>> {
        let shown = self.views.values().filter_map(|state| match state {
            State::Shown(shown) if shown.member().traits == *traits => Some(shown),
            State::Shown(_) | State::Broken(_) | State::Unmounted => None,
        });
        shown.map(|shown| shown.snapshot()).collect()
    }

    /// Ends a view, and the superblock with its last one.
    pub(super) fn leave(&mut self, file: &Path, state: State, leave: Leave) {
        let State::Shown(shown) = state else { return };
        let number = shown.superblock();
        let Some(position) = self.groups.iter().position(|group| group.number() == number) else {
            return;
        };
        let group = &mut self.groups[position];
        group.members -= 1;
        shown.end(file, group, leave, &mut self.privileged);
        self.retire(position);
    }

    /// Takes a superblock away that has no view.
    fn retire(&mut self, position: usize) {
        if self.groups[position].members == 0 {
            let group = self.groups.swap_remove(position);
            // One whose connection was aborted is mounted still; one that somebody unmounted is not.
            if let Err(error) = self.privileged.take_away(group.number())
                && !group.has_ended()
            {
                warn!(%error, "a superblock could not be detached");
            }
            self.retired.push(group);
        }
    }
}

/// Where sets that a view left are kept.
pub(super) fn open_archive(
    caches: &mut Caches,
    file: &Path,
    config: &Config,
) -> Option<Arc<Archive>> {
    let archive = Archive::open(&caches.pins, Some(file), config, caches.shared.clone());
    caches.archive = archive.map(Arc::new);
    caches.archive.clone()
}

/// What cannot be built, and what of it could not be fetched.
fn unfetched(error: BuildError, fetching: Option<&Fetching>) -> DaemonError {
    let problems = fetching.map(Fetching::problems).unwrap_or_default();
    if problems.is_empty() {
        return error.into();
    }
    let said = |(source, problem)| format!("source `{source}`: {problem}");
    DaemonError::Unfetched { error, problems: problems.into_iter().map(said).collect() }
}

/// What a view is called in its superblock.
fn name_of(file: &Path) -> Result<Name, DaemonError> {
    let name = file.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
    Name::new(name).map_err(|_| ViewError::NameTooLong.into())
}
