//! Attributes, and how long the kernel may keep what it was told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::merged::Merged;
use super::nodes::{Node, Number};
use super::{View, ViewError};
use crate::store::Attributes;
use crate::union::object::Kind;

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub number: Number,
    /// The type.
    pub kind: Kind,
    /// Bytes of content.
    pub size_bytes: u64,
    /// The time of the last modification: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
}

impl Attr {
    /// The permission bits (S26): 0644, or 0755 for directories and what its owner may execute; links have 0777.
    pub fn permissions(&self) -> u16 {
        match self.kind {
            Kind::Directory | Kind::File { is_executable: true } => 0o755,
            Kind::File { is_executable: false } => 0o644,
            Kind::Link => 0o777,
        }
    }

    /// The time of the last modification. What the standard library cannot hold is the beginning of time.
    pub fn modified_at(&self) -> SystemTime {
        let (seconds, nanos) = self.modified;
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds >= 0 {
            UNIX_EPOCH.checked_add(whole)
        } else {
            UNIX_EPOCH.checked_sub(whole)
        };
        time.and_then(|time| time.checked_add(Duration::from_nanos(u64::from(nanos))))
            .unwrap_or(UNIX_EPOCH)
    }

    pub(super) fn directory(number: Number, time_secs: i64) -> Self {
        Self { number, kind: Kind::Directory, size_bytes: 0, modified: (time_secs, 0) }
    }

    pub(super) fn from_store(number: Number, attributes: Attributes, time_secs: i64) -> Self {
        Self {
            number,
            kind: attributes.kind,
            size_bytes: attributes.size_bytes,
            modified: attributes.modified.unwrap_or((time_secs, 0)),
        }
    }
}

/// How long the kernel may keep a name, its absence, or attributes without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifetime {
    /// Not at all.
    None,
    /// Half a second: the disk may change it (S29).
    Live,
    /// As long as it likes: it never changes, or the kernel is told.
    Unlimited,
}

impl Lifetime {
    /// The lifetime in time; unlimited is longer than any machine runs.
    pub fn duration(self) -> Duration {
        match self {
            Self::Unlimited => Duration::from_secs(u64::from(u32::MAX)),
            Self::Live => Duration::from_millis(500),
            Self::None => Duration::ZERO,
        }
    }
}

impl View {
    /// The attributes of a node.
    ///
    /// # Errors
    /// The node is not known, its file is gone, or its object cannot be read.
    pub fn attr(&self, number: Number) -> Result<(Attr, Lifetime), ViewError> {
        let node = self.node(number)?;
        self.node_attr(number, &node)
    }

    pub(super) fn node_attr(
        &self,
        number: Number,
        node: &Node,
    ) -> Result<(Attr, Lifetime), ViewError> {
        let attr = match node {
            Node::Merged(merged) => return self.merged_attr(number, merged),
            Node::Tree(tree) => Attr::directory(number, tree.time_secs),
            Node::Child(tree, index) => tree.child_attr(number, *index)?,
            Node::Leaf(leaf) => leaf.attr(number)?,
            Node::Live(live) => return Ok((live.attr(number)?, Lifetime::Live)),
            Node::Empty { time_secs, .. } | Node::Kept { time_secs } => {
                Attr::directory(number, *time_secs)
            }
            Node::Overlay(_) | Node::Revisions(..) | Node::Front(_) => {
                Attr::directory(number, self.started_secs)
            }
            Node::Text(text) => Attr {
                number,
                kind: text.kind,
                size_bytes: text.bytes.len() as u64,
                modified: (self.started_secs, 0),
            },
        };
        Ok((attr, Lifetime::Unlimited))
    }

    fn merged_attr(&self, number: Number, merged: &Merged) -> Result<(Attr, Lifetime), ViewError> {
        if merged.seat.id != self.seat.id {
            // The root of a view, seen from the directory that holds all views: the view itself is to be asked.
            return Ok((Attr::directory(number, self.started_secs), Lifetime::None));
        }
        let moment = self.now.load();
        let directory = merged.directory(merged.snapshot(&moment.snapshot))?;
        Ok((Attr::directory(number, directory.time_secs), Lifetime::Unlimited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_out_of_range_do_not_panic() {
        let time = |modified| Attr { modified, ..Attr::directory(Number::ROOT, 0) }.modified_at();
        assert_eq!(time((-1, 500_000_000)), UNIX_EPOCH - Duration::from_millis(500));
        assert_eq!(time((0, 7)), UNIX_EPOCH + Duration::from_nanos(7));
        for seconds in [i64::MAX, i64::MIN] {
            time((seconds, 999_999_999));
        }
    }
}
