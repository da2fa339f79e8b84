//! Views that come, change their place, and go, with the superblocks that they are in.

use std::path::Path;
use std::sync::Arc;

use super::events::{Answer, Reloaded};
use super::group::{Group, Mounting, Traits};
use super::member::{Leave, Place, Shown};
use super::reading::refused;
use super::{Daemon, Estate, State};
use crate::config::resolved::Config;
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::DaemonError;
use crate::daemon::copy::Copying;
use crate::daemon::fetch::Fetching;
use crate::daemon::opening::Caches;
use crate::daemon::start::Plan;
use crate::snapshot::Snapshot;
use crate::sync::archive::Archive;
use crate::sync::build::rebuild;
use crate::sync::pin::Pins;
use crate::sync::{BuildError, Histories, Shared, beside};
use crate::union::name::Name;
use crate::view::{self, ViewError};

impl Daemon {
    /// Shows what a plan says, in place if that is possible.
    ///
    /// What came of a change in place is said later, with an event; nothing is returned then.
    pub(super) fn follow(
        &mut self,
        file: &Path,
        plan: Plan,
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
        let revision = self.show(file, plan, traits).map_err(|error| refused(&error))?;
        let (previous, changed, changes, warnings) = Default::default();
        Ok(Some(ReloadReport { revision, previous, changed, changes, warnings }))
    }

    /// Mounts a view, in place of the one that its file said before. Returns the id of its revision set.
    fn show(&mut self, file: &Path, plan: Plan, traits: Traits) -> Result<String, DaemonError> {
        let mut fetching = self.fetching(file, &plan.config)?;
        let outcome = self.show_fetched(file, plan, traits, &mut fetching);
        if outcome.is_err() {
            // It goes on beside: what is missing may come by it.
            self.awaited.extend(fetching.map(|fetching| (file.to_owned(), fetching)));
        }
        outcome
    }

    fn show_fetched(
        &mut self,
        file: &Path,
        plan: Plan,
        traits: Traits,
        fetching: &mut Option<Fetching>,
    ) -> Result<String, DaemonError> {
        let mut caches = self.caches(&plan)?;
        let rebuilt = rebuild(&plan.config, &caches.shared, None, None);
        let rebuilt = rebuilt.map_err(|error| unfetched(error, fetching.as_ref()))?;
        let snapshot = beside(rebuilt.snapshot, &self.snapshots(&traits));
        let revision = snapshot.id.to_string();
        let archive = Archive::open(&caches.pins, Some(file), &plan.config, caches.shared.clone())
            .map(Arc::new);
        caches.archive.clone_from(&archive);
        // Only now: what cannot be built leaves the old view.
        if let Some(state @ State::Shown(_)) = self.views.remove(file) {
            self.leave(state, Leave::ForNow);
        }
        let name = name_of(file)?;
        let archive = archive.map(|archive| archive as Arc<dyn view::Archive>);
        let position = self.groups.iter().position(|group| group.traits == traits);
        let (position, view) = if let Some(position) = position {
            (position, self.groups[position].add(&name, snapshot, archive)?)
        } else {
            let mounting = Mounting {
                place: self.base.next(),
                source: self.plan.dir.clone(),
                forbids_execution: self.plan.forbids_execution,
            };
            let (group, view) = Group::mount(&traits, mounting, &name, snapshot, archive)?;
            self.groups.push(group);
            (self.groups.len() - 1, view)
        };
        let group = &mut self.groups[position];
        let place = Place { name: name.clone(), view: view.clone() };
        let asked = (self.events.reload(file), fetching);
        match Shown::start(plan, traits, group, place, caches, asked) {
            Ok(shown) => {
                group.members += 1;
                self.views.insert(file.to_owned(), State::Shown(Box::new(shown)));
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
    pub(super) fn leave(&mut self, state: State, leave: Leave) {
        let State::Shown(shown) = state else { return };
        let traits = &shown.member().traits;
        let Some(position) = self.groups.iter().position(|group| group.traits == *traits) else {
            return;
        };
        let group = &mut self.groups[position];
        group.members -= 1;
        shown.end(group, leave);
        self.retire(position);
    }

    /// Takes a superblock away that has no view.
    fn retire(&mut self, position: usize) {
        if self.groups[position].members == 0 {
            let group = self.groups.swap_remove(position);
            group.detach();
            self.retired.push(group);
        }
    }

    fn caches(&mut self, plan: &Plan) -> Result<Caches, DaemonError> {
        let dir = &plan.config.state.dir;
        if !self.estates.contains_key(dir) {
            let pins = Arc::new(Pins::open(dir, Some(&self.plan.dir)));
            let left = if self.is_starting { pins.left() } else { Vec::new() };
            let copying = Arc::new(Copying::start(pins.clone())?);
            let of_git = pins.directory().map(|directory| directory.join("git"));
            let histories = Histories::new(of_git, self.events.wish());
            let shared = Arc::new(Shared::with_histories(&plan.config, histories));
            let estate = Estate { shared, pins, copying, left: Some(left.into()) };
            self.estates.insert(dir.clone(), estate);
        }
        let Estate { shared, pins, copying, left } = &self.estates[dir];
        let (shared, pins, copying) = (shared.clone(), pins.clone(), copying.clone());
        let (notices, left) = (self.notices.clone(), left.clone());
        let fetchers = self.fetchers.clone();
        Ok(Caches { shared, pins, copying, notices, archive: None, left, fetchers })
    }
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
