//! Making a view be as its file says now, and noting why it is not.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tracing::warn;

use super::directory::place_of;
use super::events::{Answer, Reloaded};
use super::member::Leave;
use super::{Broken, Daemon, RETRY, State};
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::operator::{Doors, Seen, Trouble};

impl Daemon {
    /// The files of views that are to be tried again: those that cannot be shown, and those that are not as their files say.
    pub(super) fn due(&self) -> Vec<PathBuf> {
        let now = Instant::now();
        let broken = self.views.iter().filter_map(|(file, state)| match state {
            State::Broken(broken) => Some((file, broken.retry_at)),
            State::Shown(_) | State::Unmounted => None,
        });
        let is_shown = |file: &Path| matches!(self.views.get(file), Some(State::Shown(_)));
        let behind = self.behind.iter().map(|(file, retry_at)| (file, *retry_at));
        let behind = behind.filter(|(file, _)| is_shown(file) && !self.is_pinned(file));
        let due = broken.chain(behind).filter(|(_, retry_at)| *retry_at <= now);
        due.map(|(file, _)| file.clone()).collect()
    }

    /// Makes a view be as its file says now. The answer may come later.
    pub(super) fn renew(&mut self, file: &Path, mut answer: Option<Answer>) {
        self.behind.remove(file);
        let plan = self.plan_of(file);
        let outcome = plan.and_then(|plan| self.follow(file, plan, &mut answer));
        let Some(outcome) = outcome.transpose() else { return };
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        match self.views.get(file) {
            Some(State::Shown(shown)) => {
                if trouble.is_some() {
                    self.behind.insert(file.to_owned(), Instant::now() + RETRY);
                }
                note(file, &shown.member().trouble, trouble);
            }
            Some(State::Broken(_) | State::Unmounted) | None => {
                if let Some(trouble) = trouble {
                    self.note_broken(file, trouble);
                }
            }
        }
        respond(answer, outcome);
    }

    /// A view was read anew in place, or could not be.
    pub(super) fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded { file, plan, trouble, outcome, answer } = reloaded;
        note(&file, &trouble, outcome.as_ref().err().map(ToString::to_string));
        if let Some(State::Shown(shown)) = self.views.get_mut(&file)
            && shown.member().trouble.is(&trouble)
        {
            let member = shown.member_mut();
            if outcome.is_ok() {
                member.plan = plan;
            } else if member.vitals.misconfigured_because().is_some() {
                // Who keeps it up to date tries again, and says this until that succeeds.
                trouble.set(None);
            }
        }
        respond(answer, outcome);
    }

    fn note_broken(&mut self, file: &Path, problem: String) {
        let retry_at = Instant::now() + RETRY;
        if let Some(State::Broken(broken)) = self.views.get_mut(file) {
            broken.retry_at = retry_at;
            if broken.trouble.get().as_ref() != Some(&problem) {
                warn!(file = %file.display(), "the view cannot be shown: {problem}");
                broken.trouble.set(Some(problem));
            }
            return;
        }
        warn!(file = %file.display(), "the view cannot be shown: {problem}");
        let mut context = Seen::context(place_of(file), Some(file.to_owned()));
        context.views = Some(self.plan.dir.clone());
        let trouble = Trouble::default();
        trouble.set(Some(problem));
        let keeper = self.keeper.clone();
        let seen = Seen { context, trouble: trouble.clone(), keeper, shown: None };
        // By its file: where it is to be mounted may be another's, or not be known.
        let doors = Doors::open(file, seen, self.events.reload(file)).ok();
        let broken = Broken { trouble, retry_at, _doors: doors };
        if let Some(state) = self.views.insert(file.to_owned(), State::Broken(broken)) {
            self.leave(file, state, Leave::ForNow);
        }
    }
}

/// Notes why a view that is shown is not as its file says.
fn note(file: &Path, known: &Trouble, trouble: Option<String>) {
    if let Some(trouble) = trouble.as_ref().filter(|trouble| known.get().as_ref() != Some(trouble))
    {
        warn!(file = %file.display(), "the view stays as it is: {trouble}");
    }
    known.set(trouble);
}

/// Tells an operator what came of it, who may have gone away.
fn respond(answer: Option<Answer>, outcome: Result<ReloadReport, ControlError>) {
    if let Some(answer) = answer {
        answer.send(outcome).unwrap_or_default();
    }
}
