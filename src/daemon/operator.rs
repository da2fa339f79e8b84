//! What the control socket of a daemon answers.

use std::path::PathBuf;
use std::sync::Arc;

use super::DaemonError;
use super::kept_by::KeptBy;
use super::start::Plan;
use super::update::Updates;
use super::vitals::Vitals;
use crate::config::resolved::Origin;
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::control::server::{Operator, Server};
use crate::control::status::{Context, Status};
use crate::fuse::Counts;
use crate::machine::run_dir::RunDir;
use crate::snapshot::explanation::ExplanationReport;
use crate::union::name::RelPath;
use crate::view::View;

/// The doors of a daemon, open while this lives.
#[derive(Debug)]
pub(super) struct Doors {
    _server: Server,
}

impl Doors {
    /// Opens the control socket.
    pub(super) fn open(
        plan: &Plan,
        view: Arc<View>,
        (counts, updates, vitals, keeper): (Arc<Counts>, Updates, Arc<Vitals>, Option<Arc<KeptBy>>),
    ) -> Result<Self, DaemonError> {
        let run_dir = RunDir::make()?;
        let config = match &plan.config.origin {
            Origin::File(path) | Origin::Values(path) => Some(path.clone()),
            Origin::CommandLine => None,
        };
        let mountpoint = plan.mountpoint.clone();
        let daemon = Daemon { view, counts, updates, vitals, keeper, mountpoint, config };
        let socket = run_dir.socket(&plan.mountpoint);
        Ok(Self { _server: Server::start(&socket, Arc::new(daemon))? })
    }
}

/// A daemon, as its operator sees it.
struct Daemon {
    view: Arc<View>,
    counts: Arc<Counts>,
    updates: Updates,
    vitals: Arc<Vitals>,
    keeper: Option<Arc<KeptBy>>,
    mountpoint: PathBuf,
    config: Option<PathBuf>,
}

impl Operator for Daemon {
    fn status(&self) -> Status {
        let context = Context {
            pid: std::process::id(),
            supervisor_pid: self.keeper.as_ref().and_then(|keeper| keeper.pid()),
            mountpoint: self.mountpoint.clone(),
            config: self.config.clone(),
            is_stopping: self.vitals.is_stopping(),
            confinement: self.keeper.as_ref().and_then(|keeper| keeper.confinement()),
        };
        tracing::debug!(
            requests = ?self.counts.all(),
            nodes = self.view.known_nodes(),
            numbers = self.view.used_numbers(),
            "status"
        );
        Status::new(&self.view.snapshot(), &context)
    }

    fn reload(&self) -> Result<ReloadReport, ControlError> {
        self.updates.reload()
    }

    fn upgrade(&self) -> ControlError {
        match &self.keeper {
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
        let report = ExplanationReport::of(&self.view.snapshot(), &path);
        serde_json::to_value(report).map_err(|error| ControlError::Refused {
            message: format!("writing the answer: {error}"),
            cure: None,
        })
    }
}
