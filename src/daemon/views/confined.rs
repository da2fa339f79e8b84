//! What the worker of many views gives up before it serves them.

use std::collections::HashMap;
use std::path::PathBuf;

use super::ViewsPlan;
use super::directory::files_of;
use super::note::Note;
use super::parsed::Parsed;
use super::resume::Left;
use crate::control::http::Address;
use crate::daemon::DaemonError;
use crate::daemon::confines::Needs;
use crate::daemon::kept_by::KeptBy;
use crate::machine::broker::Line;
use crate::machine::confinement::KeptPrivileges;
use crate::sync::reach::Reach;

/// Takes over what a worker before has left, and confines this one where somebody mounts for it. Has to come before its first thread.
pub(super) fn begin(
    plan: &ViewsPlan,
    keeper: Option<&KeptBy>,
    parsed: &mut Parsed,
) -> Result<(Option<Vec<Left>>, Option<Line>), DaemonError> {
    let Some(keeper) = keeper else { return Ok((None, None)) };
    // First: from the next step on nobody is answered.
    let needs = AllNeed::now(plan, parsed);
    // The worker before has ended once this is answered, and what it held can be taken.
    let left = if keeper.is_first() { None } else { Some(Left::read_all(keeper.ask_all()?)?) };
    let broker = keeper.broker()?;
    if broker.is_some() {
        let needs = needs.and_earlier(plan, left.as_deref().unwrap_or_default());
        keeper.confine_views(needs, plan.kept());
    }
    Ok((left, broker))
}

impl ViewsPlan {
    /// What a worker that serves it keeps of what it could do.
    fn kept(&self) -> KeptPrivileges {
        let binds_low_port = self.metrics.as_ref().is_some_and(Address::is_privileged);
        KeptPrivileges { binds_low_port, passes_files_through: self.has_passthrough }
    }
}

/// What the worker of all views needs.
struct AllNeed {
    needs: Needs,
    /// The texts of the files that were looked at.
    texts: HashMap<PathBuf, Vec<u8>>,
}

impl AllNeed {
    /// What the files lead to as they are now.
    fn now(plan: &ViewsPlan, parsed: &mut Parsed) -> Self {
        let directory = Reach { read: [plan.dir.clone()].into(), ..Reach::default() };
        let (mut needs, mut texts) = (Needs::new(directory), HashMap::new());
        for file in files_of(&plan.dir).unwrap_or_default() {
            if let Ok((config, text)) = parsed.load(plan, &file) {
                needs.add(&config);
                texts.insert(file, text);
            }
        }
        Self { needs, texts }
    }

    /// And what they led to as a worker before has served them: it is gone on with from there.
    fn and_earlier(mut self, plan: &ViewsPlan, left: &[Left]) -> Needs {
        for view in left.iter().flat_map(|left| left.past.views()) {
            let note = Note::parse(view.note()).filter(|note| note.is_bound);
            let Some((note, (first, last))) = note.zip(view.configurations()) else { continue };
            let now = self.texts.get(&note.file);
            if now == Some(first) && now == Some(last) {
                continue;
            }
            if let Some(read) = plan.earlier_plan(&note, view) {
                self.needs.add(&read.plan.config);
            }
        }
        self.needs
    }
}
