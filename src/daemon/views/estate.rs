//! State directories, and what views with the same one share.

use std::sync::Arc;

use super::{Daemon, State};
use crate::daemon::copy::Copying;
use crate::daemon::opening::Caches;
use crate::daemon::start::Plan;
use crate::store::git::Repository;
use crate::sync::pin::Pins;
use crate::sync::{Histories, Shared};

/// What views with the same state directory share.
pub(super) struct Estate {
    shared: Arc<Shared>,
    pub(super) pins: Arc<Pins>,
    copying: Arc<Copying>,
    /// What was pinned before, for the views that start with the daemon.
    pub(super) left: Option<Arc<[Arc<Repository>]>>,
}

impl Estate {
    /// Whether something has it that may come to show a view, or goes on beside one.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.shared) > 1 || Arc::strong_count(&self.copying) > 1
    }
}

impl Daemon {
    /// What a view shares with others.
    pub(super) fn caches(&mut self, plan: &Plan) -> Caches {
        let state = &plan.config.state;
        let dir = &state.dir;
        if !self.estates.contains_key(dir) {
            let pins = Arc::new(Pins::open(state, Some(&self.plan.dir)));
            // Also where nobody wants it: what is pinned now gets other names.
            let left = pins.left();
            let left = if self.is_starting { left } else { Vec::new() };
            let copying = Arc::new(Copying::new(pins.clone()));
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
        Caches { shared, pins, copying, notices, archive: None, left, fetchers }
    }

    /// Lets go of the state directories of which no view is any more; what is in them stays for the next one. Only while nobody holds a view
    /// that is gone.
    pub(super) fn let_go_of_estates(&mut self) {
        // One that cannot be shown is tried again soon, and wants its own.
        if self.views.values().any(|state| matches!(state, State::Broken(_))) {
            return;
        }
        let used: Vec<_> = self.views.values().filter_map(State::plan).collect();
        self.estates.retain(|dir, estate| {
            let is_used = used.iter().any(|plan| plan.config.state.dir == *dir);
            if is_used || estate.is_in_use() {
                return true;
            }
            estate.pins.keep();
            false
        });
    }
}
