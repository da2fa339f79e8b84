//! All views of a directory, as those see them who observe the daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::info;

use super::State;
use crate::control::http::{Address, HttpServer, Observed};
use crate::control::metrics::Page;
use crate::control::view_metrics::write_views;
use crate::daemon::DaemonError;
use crate::daemon::vitals::{Vitals, page};

/// The views that there are, kept by the thread that looks after them.
#[derive(Debug, Default)]
pub(super) struct Roll {
    views: Mutex<BTreeMap<String, Listed>>,
    has_started: AtomicBool,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
enum Listed {
    ShownView(Arc<Vitals>),
    Broken,
    Unmounted,
}

impl Roll {
    /// This is how the views are now.
    pub(super) fn set(&self, views: &BTreeMap<PathBuf, State>) {
        let listed = views.iter().map(|(file, state)| {
            let listed = match state {
                State::Shown(shown) => Listed::ShownView(shown.member().vitals.clone()),
                State::Broken(_) => Listed::Broken,
                State::Unmounted => Listed::Unmounted,
            };
            (name(file), listed)
        });
        *self.lock() = listed.collect();
    }

    /// What can be shown is.
    pub(super) fn start(&self) {
        self.has_started.store(true, Ordering::Release);
    }

    /// All are about to be taken away.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// The first complaint of one that is shown, with its name.
    fn all(&self, ask: impl Fn(&Vitals) -> Result<(), String>) -> Result<(), String> {
        for (name, listed) in self.lock().iter() {
            if let Listed::ShownView(vitals) = listed {
                ask(vitals).map_err(|reason| format!("view `{name}`: {reason}"))?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Listed>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a view is called where it is told from others: its file, without the directory.
fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Observed for Roll {
    fn metrics(&self) -> Page {
        let views = self.lock();
        let shown = views.iter().filter_map(|(name, listed)| match listed {
            Listed::ShownView(vitals) => Some((Some(name.as_str()), vitals.as_ref())),
            Listed::Broken | Listed::Unmounted => None,
        });
        let shown: Vec<_> = shown.collect();
        let count = |is_it: fn(&Listed) -> bool| views.values().filter(|one| is_it(one)).count();
        let by_state = [
            ("shown", shown.len()),
            ("broken", count(|listed| matches!(listed, Listed::Broken))),
            ("unmounted", count(|listed| matches!(listed, Listed::Unmounted))),
        ];
        let mut page = page(&shown);
        write_views(&mut page, &by_state);
        page
    }

    fn health(&self) -> Result<(), String> {
        self.all(Observed::health)
    }

    fn readiness(&self) -> Result<(), String> {
        if !self.has_started.load(Ordering::Acquire) {
            return Err("the views are not mounted yet".to_owned());
        }
        if self.is_stopping.load(Ordering::Acquire) {
            return Err("the views are about to be unmounted".to_owned());
        }
        self.all(Observed::readiness)
    }
}

/// Answers at an address, if one is given, until what this returns is dropped.
pub(super) fn serve(
    address: Option<&Address>,
    roll: Arc<Roll>,
) -> Result<Option<HttpServer>, DaemonError> {
    let Some(address) = address else { return Ok(None) };
    let server = HttpServer::start(address, roll)?;
    info!(address = %server.address(), "metrics are served");
    Ok(Some(server))
}
