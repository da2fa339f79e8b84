//! The `.git` of a source that is shown whole (`mount.git`).

use std::sync::Arc;

use super::Source;

/// The `.git` of a source that is shown whole.
#[derive(Debug, Clone)]
pub enum GitDirectory {
    /// None is configured, or it is not for this source.
    NotAsked,
    /// It would have one if it were mounted. This snapshot is only looked at, as by `check` and `explain`.
    NotMade,
    /// It is shown: the top of this source, which is a live directory that nobody changes.
    Shown(Arc<Source>),
    /// It should have one, and has none.
    LeftOut {
        /// Why there is none.
        reason: String,
    },
}

impl GitDirectory {
    /// The source that is shown as `.git`, if one is.
    pub fn shown(&self) -> Option<&Arc<Source>> {
        match self {
            Self::Shown(source) => Some(source),
            Self::NotAsked | Self::NotMade | Self::LeftOut { .. } => None,
        }
    }

    /// Why it is left out, if it is.
    pub fn left_out(&self) -> Option<&str> {
        match self {
            Self::LeftOut { reason } => Some(reason),
            Self::NotAsked | Self::NotMade | Self::Shown(_) => None,
        }
    }

    /// True for the same `.git`, with the same HEAD and the same objects, or for none on both sides.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.shown(), other.shown()) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => self.left_out() == other.left_out(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
