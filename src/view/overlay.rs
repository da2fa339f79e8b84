//! `.overlay`: the view about itself. Found by name in the root, not listed there (S41).
//!
//! Every file of it is frozen: another text is another node. Below `revisions` each set that is kept has the layout of the root.

use std::sync::Arc;

use super::attr::Lifetime;
use super::journal::What;
use super::lookup::Candidate;
use super::merged::{Merged, merged_key};
use super::moment::Moment;
use super::nodes::{Node, Number};
use super::numbers::NodeKey;
use super::tree::Text;
use super::{View, ViewError};
use crate::union::name::{Name, RelPath};
use crate::union::object::Kind;
use crate::union::revision::RevisionSetId;

/// The name in the root.
pub(super) const NAME: &[u8] = b".overlay";
/// The directory of the sets that are kept.
const REVISIONS: &str = "revisions";
/// The link to the newest of them.
const CURRENT: &str = "current";

fn fixed(name: &str) -> Name {
    Name::new(name).expect("a fixed name of this module")
}

/// Where `.overlay` is.
pub(super) fn path() -> RelPath {
    [fixed(".overlay")].into_iter().collect()
}

/// Where the sets that are kept are.
pub(super) fn revisions_path() -> RelPath {
    path().join(&fixed(REVISIONS))
}

/// Where a set that is kept is.
pub(super) fn revision_path(id: &RevisionSetId) -> RelPath {
    revisions_path().join(&fixed(&id.to_string()))
}

/// The names that lead elsewhere after every flip.
pub(super) fn text_paths() -> impl Iterator<Item = RelPath> {
    ["current", "entries.json", "revision", "status.json"]
        .map(|name| path().join(&fixed(name)))
        .into_iter()
}

/// Names `.overlay` among all numbered things.
pub(super) fn key() -> NodeKey {
    NodeKey::new(&[b"overlay"])
}

/// Names `.overlay/revisions` among all numbered things.
pub(super) fn revisions_key() -> NodeKey {
    NodeKey::new(&[b"revisions"])
}

impl View {
    pub(super) fn overlay(&self) -> Result<Candidate, ViewError> {
        let number = self.numbers.single(key(), || What::Overlay)?;
        Ok(Candidate {
            number,
            node: Node::Overlay(self.seat.clone()),
            name_lifetime: Lifetime::Unlimited,
        })
    }

    pub(super) fn in_overlay(
        &self,
        moment: &Moment,
        name: &Name,
    ) -> Result<Option<Candidate>, ViewError> {
        let names = self.overlay_names(moment)?;
        Ok(names.into_iter().find(|(known, _)| known == name).map(|(_, candidate)| candidate))
    }

    /// Everything in `.overlay`, sorted.
    pub(super) fn overlay_names(
        &self,
        moment: &Moment,
    ) -> Result<Vec<(Name, Candidate)>, ViewError> {
        let target = target(&moment.snapshot.id);
        let current = Text { bytes: target.into(), kind: Kind::Link };
        let mut names = vec![(fixed(CURRENT), current)];
        let file = Kind::File { is_executable: false };
        names.extend(
            moment
                .snapshot
                .texts()
                .iter()
                .map(|(name, bytes)| (name.clone(), Text { bytes: bytes.clone(), kind: file })),
        );
        let mut found = Vec::with_capacity(names.len() + 1);
        for (name, text) in names {
            let key = text_key(&name, &text.bytes);
            let is_link = text.kind == Kind::Link;
            let number = self.numbers.files(key, 1, || What::text(is_link, &text.bytes))?;
            let name_lifetime = moment.lifetime(&path(), &name);
            found.push((
                name,
                Candidate { number, node: Node::Text(Arc::new(text)), name_lifetime },
            ));
        }
        let number = self.numbers.single(revisions_key(), || What::Revisions)?;
        let node = Node::Revisions(self.overlay()?.number, self.seat.clone());
        found.push((
            fixed(REVISIONS),
            Candidate { number, node, name_lifetime: Lifetime::Unlimited },
        ));
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    /// The root of a set that is kept.
    pub(super) fn in_revisions(
        &self,
        moment: &Moment,
        parent: Number,
        name: &Name,
    ) -> Result<Option<Candidate>, ViewError> {
        let Some(id) = RevisionSetId::parse(name.as_bytes()) else { return Ok(None) };
        let snapshot = if id == moment.snapshot.id {
            moment.snapshot.clone()
        } else {
            let Some(kept) = moment.kept(&id) else { return Ok(None) };
            kept.snapshot(self.archive())?
        };
        let root = snapshot.namespace.root();
        let (pin, seat) = (Some(snapshot.clone()), self.seat.clone());
        let merged = Merged { path: RelPath::root(), parent, born: root.born, pin, seat };
        let number = self.numbers.single(merged.key(), || merged.what())?;
        let name_lifetime = moment.lifetime(&revisions_path(), name);
        Ok(Some(Candidate { number, node: Node::Merged(Arc::new(merged)), name_lifetime }))
    }

    /// Every set that can be read, sorted. None of those that were left is read for it, and whoever goes into one looks it up first.
    pub(super) fn revision_names(
        &self,
        moment: &Moment,
        parent: Number,
    ) -> Result<Vec<(Name, Candidate)>, ViewError> {
        let mut found = Vec::new();
        for id in moment.ids() {
            let name = fixed(&id.to_string());
            let kept = moment.kept(&id).filter(|_| id != moment.snapshot.id);
            let candidate = match kept {
                None => self.in_revisions(moment, parent, &name)?,
                Some(kept) => {
                    let (born, time_secs) = kept.root();
                    let what = || What::Merged {
                        path: Vec::new(),
                        parent: parent.0,
                        born,
                        pin: Some(id.0),
                    };
                    let number = self.numbers.single(root_key(&id, born), what)?;
                    let node = Node::Kept { time_secs };
                    Some(Candidate { number, node, name_lifetime: Lifetime::None })
                }
            };
            found.extend(candidate.map(|candidate| (name, candidate)));
        }
        Ok(found)
    }
}

/// Where the link to the newest set leads.
fn target(id: &RevisionSetId) -> Vec<u8> {
    format!("{REVISIONS}/{id}").into_bytes()
}

/// Names a file or link of `.overlay` among all numbered things.
pub(super) fn text_key(name: &Name, bytes: &[u8]) -> NodeKey {
    NodeKey::new(&[b"text", name.as_bytes(), bytes])
}

/// The keys of what `.overlay` holds, as far as it was written; files and all else.
pub(super) fn keys(moment: &Moment) -> (Vec<NodeKey>, Vec<NodeKey>) {
    let current = text_key(&fixed(CURRENT), &target(&moment.snapshot.id));
    let texts = moment.snapshot.texts.get().into_iter().flatten();
    let files = texts.map(|(name, bytes)| text_key(name, bytes)).chain([current]);
    let kept = moment.kept.iter().map(|kept| root_key(&kept.id(), kept.root().0));
    (files.collect(), kept.chain([key(), revisions_key()]).collect())
}

/// Names the root of a set below `revisions` among all numbered things.
fn root_key(id: &RevisionSetId, born: u64) -> NodeKey {
    merged_key(Some(id), &RelPath::root(), born)
}
