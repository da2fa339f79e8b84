//! What the control socket of a daemon answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::DaemonError;
use super::configuration::config_file;
use super::kept_by::KeptBy;
use super::start::Plan;
use super::vitals::Vitals;
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::control::server::{Operator, Server};
use crate::control::status::{Context, Status};
use crate::fuse::Counts;
use crate::machine::inside;
use crate::machine::kernel;
use crate::machine::run_dir::RunDir;
use crate::snapshot::explanation::ExplanationReport;
use crate::union::name::RelPath;
use crate::view::View;

/// The doors of a daemon, open while this lives.
#[derive(Debug)]
pub(super) struct Doors {
    _server: Server,
}

/// How a view is read anew.
pub(super) type Reload = Box<dyn Fn() -> Result<ReloadReport, ControlError> + Send + Sync>;

/// What a status says of a view beyond its sources, and may change while it is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// From now on this is why the view is not as its file says.
    pub(super) fn set(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Whether it is of the same view.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Why the view is not as its file says.
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Doors {
    /// Opens the control socket of a mount point.
    pub(super) fn open(mountpoint: &Path, seen: Seen, reload: Reload) -> Result<Self, DaemonError> {
        let socket = RunDir::make()?.socket(mountpoint);
        let daemon = OperatedDaemon { seen, reload };
        Ok(Self { _server: Server::start(&socket, Arc::new(daemon))? })
    }

    /// Opens the control socket of a view that one command sees. Where none can be had, or none is told, the view does without.
    pub(super) fn open_inside(mountpoint: &Path, seen: Seen, reload: Reload) -> Option<Self> {
        let socket = inside::own_socket(mountpoint)?;
        let daemon = OperatedDaemon { seen, reload };
        let server = Server::start(&socket, Arc::new(daemon));
        let server = server.inspect_err(|error| warn!(%error, "the view cannot be asked"));
        Some(Self { _server: server.ok()? })
    }
}

/// What an operator sees of a view.
pub(super) struct Seen {
    pub(super) context: Context,
    pub(super) trouble: Trouble,
    /// Who replaces the process, if anybody does.
    pub(super) keeper: Option<Arc<KeptBy>>,
    /// Nothing if it cannot be shown.
    pub(super) shown: Option<(Arc<View>, Arc<Counts>, Arc<Vitals>)>,
}

impl Seen {
    /// Of a view that is shown.
    pub(super) fn new(
        plan: &Plan,
        view: Arc<View>,
        counts: Arc<Counts>,
        vitals: Arc<Vitals>,
        keeper: Option<Arc<KeptBy>>,
    ) -> Self {
        let mut context = Self::context(plan.mountpoint.clone(), config_file(&plan.config.origin));
        context.views.clone_from(&plan.views);
        let labels = plan.labels.all();
        context.labels =
            labels.map(|(option, label)| (option.to_owned(), label.to_string())).collect();
        Self { context, trouble: Trouble::default(), keeper, shown: Some((view, counts, vitals)) }
    }

    /// What there is to say without a view.
    pub(super) fn context(mountpoint: PathBuf, config: Option<PathBuf>) -> Context {
        let pid = std::process::id();
        let (is_stopping, views, error, confinement) = (false, None, None, None);
        let (supervisor_pid, no_large_files_because) = (None, None);
        Context {
            pid,
            supervisor_pid,
            mountpoint,
            config,
            is_stopping,
            views,
            error,
            confinement,
            no_large_files_because,
            labels: BTreeMap::new(),
        }
    }
}

/// A daemon, as its operator sees it.
struct OperatedDaemon {
    seen: Seen,
    reload: Reload,
}

impl Operator for OperatedDaemon {
    fn status(&self) -> Status {
        let mut context = self.seen.context.clone();
        context.error = self.seen.trouble.get();
        if let Some(keeper) = &self.seen.keeper {
            context.supervisor_pid = keeper.pid();
            context.confinement = keeper.confinement();
        }
        let Some((view, counts, vitals)) = &self.seen.shown else {
            return Status::broken(&context);
        };
        context.error = context.error.or_else(|| vitals.misconfigured_because());
        context.is_stopping = vitals.is_stopping();
        context.no_large_files_because = vitals.no_large_files_because();
        tracing::debug!(
            requests = ?counts.all(),
            nodes = view.known_nodes(),
            numbers = view.used_numbers(),
            "status"
        );
        Status::new(&view.snapshot(), &context)
    }

    fn reload(&self) -> Result<ReloadReport, ControlError> {
        (self.reload)()
    }

    fn upgrade(&self) -> ControlError {
        match &self.seen.keeper {
            // Whoever serves would be ended before it is known that nobody else can.
            Some(_) if !kernel::hands_mounts_over() => ControlError::Refused {
                message: format!("{}: the old one goes on", kernel::NO_HANDOVER),
                cure: Some("unmount, and mount again, when it suits".to_owned()),
            },
            Some(keeper) => keeper.replace(),
            None => ControlError::Refused {
                message: "the view has no keeper: its process cannot be replaced".to_owned(),
                cure: Some("unmount, and mount again, with `--supervised`".to_owned()),
            },
        }
    }

    fn explain(&self, path: &[u8]) -> Result<serde_json::Value, ControlError> {
        let path = RelPath::parse(path).map_err(|error| ControlError::Refused {
            message: format!("the path {error}"),
            cure: Some("give a path relative to the root of the view".to_owned()),
        })?;
        let Some((view, ..)) = &self.seen.shown else {
            let message = self.seen.trouble.get().unwrap_or_default();
            return Err(ControlError::Refused { message, cure: None });
        };
        let report = ExplanationReport::of(&view.snapshot(), &path);
        serde_json::to_value(report).map_err(|error| ControlError::Refused {
            message: format!("writing the answer: {error}"),
            cure: None,
        })
    }
}
