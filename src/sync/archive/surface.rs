//! A row of the table of surfaces, as it is written down.

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use crate::union::surface::{EntryRule, Presence, Surface};

/// One row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SurfaceRecord {
    name: String,
    at: Bytes,
    subdir: Option<Bytes>,
    rule: RuleRecord,
    presence: PresenceRecord,
    never_shown: Vec<Bytes>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RuleRecord {
    Children,
    Packages { marker: Bytes, depth: u32 },
    Prompts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PresenceRecord {
    Always,
    Configured,
    Filled,
}

impl SurfaceRecord {
    pub(super) fn of(surface: &Surface) -> Self {
        Self {
            name: surface.name.clone(),
            at: Bytes::of(&surface.at),
            subdir: surface.subdir.as_ref().map(Bytes::of),
            rule: match &surface.rule {
                EntryRule::Children => RuleRecord::Children,
                EntryRule::Packages { marker, depth } => {
                    RuleRecord::Packages { marker: Bytes::of_name(marker), depth: *depth }
                }
                EntryRule::Prompts => RuleRecord::Prompts,
            },
            presence: match surface.presence {
                Presence::Always => PresenceRecord::Always,
                Presence::IfConfigured => PresenceRecord::Configured,
                Presence::IfNotEmpty => PresenceRecord::Filled,
            },
            never_shown: surface.never_shown.iter().map(Bytes::of_name).collect(),
        }
    }

    pub(super) fn surface(&self) -> Option<Surface> {
        let rule = match &self.rule {
            RuleRecord::Children => EntryRule::Children,
            RuleRecord::Packages { marker, depth } => {
                EntryRule::Packages { marker: marker.name()?, depth: *depth }
            }
            RuleRecord::Prompts => EntryRule::Prompts,
        };
        let presence = match self.presence {
            PresenceRecord::Always => Presence::Always,
            PresenceRecord::Configured => Presence::IfConfigured,
            PresenceRecord::Filled => Presence::IfNotEmpty,
        };
        let never_shown = self.never_shown.iter().map(Bytes::name).collect::<Option<_>>()?;
        let subdir = match &self.subdir {
            Some(subdir) => Some(subdir.path()?),
            None => None,
        };
        Some(Surface {
            name: self.name.clone(),
            at: self.at.path()?,
            subdir,
            rule,
            presence,
            never_shown,
        })
    }
}
