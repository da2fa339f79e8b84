//! Reading the configuration anew, upon a change of its file or because somebody asks.

use std::mem;

use tracing::warn;

use super::Updater;
use crate::config::resolved::Access;
use crate::control::ControlError;
use crate::daemon::configuration::{config_stamp, is_unreadable_now, reread};
use crate::daemon::guard::guarded;
use crate::daemon::kept_by::widen;
use crate::daemon::outcome::Followed;

/// How what is shown stands to the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is what the configuration said when it was read last, as far as that could be read.
    Follows,
    /// The configuration says something else that could not be shown.
    Behind,
}

/// Whether sources are fetched before they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Before, and that is waited for.
    Now,
    /// When it is time for it.
    Later,
}

impl Updater {
    /// As [`Self::reload`], for somebody who asked and is told what could not be fetched too: the log has that from who fetches.
    pub(super) fn reload_asked(&mut self) -> Result<Followed, ControlError> {
        let mut followed = self.reload(Fetch::Now)?;
        let unfetched = self
            .problems
            .iter()
            .map(|(label, problem)| format!("source `{label}` could not be fetched: {problem}"));
        followed.report.warnings.extend(unfetched);
        Ok(followed)
    }

    /// Tries once more to follow a configuration that could not be followed; if it still cannot be, the moves of the sources are followed as the
    /// one before has them.
    pub(super) fn catch_up(&mut self) -> Result<Followed, ControlError> {
        let outcome = guarded(|| self.reload(Fetch::Later));
        if outcome.is_err() {
            guarded(|| self.update())?;
        }
        outcome
    }

    /// Reads the configuration anew, and then the sources. Until that succeeds `status` says why the view is not as the configuration says.
    pub(super) fn reload(&mut self, fetch: Fetch) -> Result<Followed, ControlError> {
        if self.is_pinned {
            let message = "the view was mounted with `--pin`: it shows the revision set of its start for good";
            let cure =
                Some("mount it anew, without `--pin` where it is to follow its sources".to_owned());
            return Err(ControlError::Refused { message: message.to_owned(), cure });
        }
        let outcome = self.read_anew(fetch);
        self.vitals.misconfigured(outcome.as_ref().err().map(ControlError::with_cure));
        outcome
    }

    fn read_anew(&mut self, fetch: Fetch) -> Result<Followed, ControlError> {
        self.config_stamp = Some(config_stamp(&self.config.origin));
        self.standing = Standing::Follows;
        // The file itself may be another one.
        widen(self.keeper.as_deref(), &self.config);
        let read = reread(&self.config, &self.overrides, self.place.as_deref());
        self.vitals.tally.configured(read.is_ok());
        if read.is_err() && is_unreadable_now(&self.config.origin) {
            // What it says may be new, and its file looks no other when it can be read.
            self.standing = Standing::Behind;
        }
        let (config, said, text) = read?;
        widen(self.keeper.as_deref(), &config);
        let before = mem::replace(&mut self.config, config);
        if fetch == Fetch::Now {
            self.fetch();
        }
        let outcome = guarded(|| self.update());
        if outcome.is_err() {
            self.config = before;
            self.standing = Standing::Behind;
        } else if (self.config.access, &self.config.sources) != (before.access, &before.sources) {
            self.forget_forbidden(before.access);
        }
        let mut followed = outcome?;
        self.view.note_configuration(&text);
        followed.report.warnings.splice(0..0, said);
        Ok(followed)
    }

    /// Fetches what the configuration names, where it asks for that.
    fn fetch(&mut self) {
        match self.caches.fetchers.follow(self.fetching.take(), &self.config) {
            Ok(fetching) => self.fetching = fetching,
            Err(error) => warn!(%error, "nothing is fetched"),
        }
        self.vitals.fetched(self.fetching.as_ref());
        if let Some(fetching) = &self.fetching {
            fetching.round(&self.stop);
        }
    }

    /// Drops the sets that were left and show what may not be shown any more.
    fn forget_forbidden(&self, access_before: Access) {
        if let Some(archive) = &self.caches.archive {
            let forbidden = archive.forbidden(&self.config);
            self.view.forget_kept(|id| forbidden.contains(id), &self.kernel);
            archive.retain(&self.view.revisions());
        } else if self.config.access != access_before {
            self.view.forget_kept(|_| true, &self.kernel);
        }
    }
}
