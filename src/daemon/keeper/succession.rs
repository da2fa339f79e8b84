//! Another worker takes the place of one that serves.

use tracing::warn;

use super::{Keeping, Serving};
use crate::daemon::DaemonError;
use crate::machine::keeper::{KeeperAnswer, Turn};

impl Keeping<'_> {
    /// Has another worker take over, of the program that is on disk now or of the one that serves.
    pub(super) fn replace(&mut self, has_other_program: bool) {
        if self.successor.is_some() || self.is_stopping.is_some() {
            return self.refuse_replacement();
        }
        let started = if has_other_program {
            self.workshop.start_replaced().map(|(worker, program)| (worker, Some(program)))
        } else {
            self.workshop.start(Turn::Next).map(|worker| (worker, None))
        };
        let started = started.map_err(DaemonError::from);
        let heard = started.and_then(|(worker, program)| Ok((self.listened_to(worker)?, program)));
        match heard {
            Ok(successor) => self.successor = Some(successor),
            Err(error) => {
                warn!(%error, "no other worker could be started");
                self.refuse_replacement();
            }
        }
    }

    pub(super) fn refuse_replacement(&self) {
        if let Some(serving) = &self.worker {
            serving.worker.tell(KeeperAnswer::Refused);
        }
    }

    /// A worker that is to take over has come so far that it needs the mount: who served until now ends here.
    pub(super) fn promote(&mut self, pid: u32) {
        if self.successor.as_ref().is_some_and(|(worker, _)| worker.pid() == pid)
            && let Some((worker, program)) = self.successor.take()
        {
            if let Some(before) = self.worker.replace(Serving { worker, since: None }) {
                before.worker.end();
            }
            if let Some(program) = program {
                self.workshop.adopt(program);
                self.is_on_trial = true;
            }
        }
    }
}
