//! What is known of a history, kept beside its packs for the next daemon of the mount.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::store::is_momentary;

/// The form of a record. One of another form is not read.
const FORM: u32 = 1;
/// So many commits are remembered, the newest: one that is forgotten is looked for again, and adds nothing.
const TIPS_MAX: usize = 256;

/// The packs of a history, and the commits that they were made for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct HistoryRecord {
    form: u32,
    /// The names of its packs, without an ending.
    pub(super) packs: Vec<String>,
    /// The commits all of whose objects are in the packs, the oldest first.
    pub(super) tips: Vec<Tip>,
}

/// A commit that was served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tip {
    /// Its id.
    pub(super) commit: String,
    /// Names the boundary at which its repository's history ended.
    pub(super) boundary: String,
    /// The commits of the boundary that it reaches.
    pub(super) shallow: Vec<String>,
}

impl HistoryRecord {
    /// Reads the record in a directory; nothing if there is none that can be used.
    ///
    /// # Errors
    /// What is there cannot be told at the moment: nothing of it is to be removed.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(dir.join("record.json")) {
            Err(error) if is_momentary(&error) => return Err(error),
            text => text.ok(),
        };
        let record = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let Some(record) = record.filter(|record| record.form == FORM) else { return Ok(None) };
        for name in &record.packs {
            if !is_name(name) || !has_pack(dir, name)? {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&mut self, dir: &Path) -> io::Result<()> {
        self.form = FORM;
        let surplus = self.tips.len().saturating_sub(TIPS_MAX);
        self.tips.drain(..surplus);
        let beside = dir.join("record.json.new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(beside, dir.join("record.json"))
    }

    /// The tip of a commit whose history ended there.
    pub(super) fn tip(&self, commit: &str, boundary: &str) -> Option<&Tip> {
        self.tips.iter().find(|tip| tip.commit == commit && tip.boundary == boundary)
    }
}

/// Whether a pack and its index are there.
fn has_pack(dir: &Path, name: &str) -> io::Result<bool> {
    for ending in ["pack", "idx"] {
        let file = dir.join("repository/objects/pack").join(format!("{name}.{ending}"));
        match fs::metadata(file) {
            Ok(found) if found.is_file() => {}
            Err(error) if is_momentary(&error) => return Err(error),
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

/// True for the name of a pack as git writes it: it becomes part of a path.
fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix("pack-");
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
