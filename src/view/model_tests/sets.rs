//! The sets that a view of random sources shows, one after the other.

use std::sync::Arc;
use std::time::SystemTime;

use super::disk::{self, Gits};
use super::world::{Choice, LIVE, SETS_KEPT, Tree, World};
use crate::config::resolved::Links;
use crate::snapshot::{GitDirectory, Snapshot, Source};
use crate::store::memory::MemoryStore;
use crate::store::{Store, walk};
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Namespace, Shown};
use crate::union::object::Kind;
use crate::union::revision::RevisionSetId;
use crate::union::source::SourceId;
use crate::union::succession::Succession;
use crate::union::surface::SurfaceId;
use crate::view::sample::{path, source_of};

/// A source from git at a revision.
pub(super) struct Revision {
    pub(super) tree: Tree,
    pub(super) store: Arc<MemoryStore>,
    /// With each `.git` that it can have, first none.
    sources: Vec<Arc<Source>>,
}

impl Revision {
    pub(super) fn new(source: usize, revision: usize, tree: Tree, gits: &Gits) -> Self {
        let store = Arc::new(tree.store());
        let key = u8::try_from(source).unwrap() + 1;
        let with = |git: usize| {
            let source_of = source_of(&format!("o/{key}"), key, store.clone());
            let mut found = Arc::into_inner(source_of).unwrap();
            found.git_directory = match gits.get(source, revision, git) {
                None => GitDirectory::LeftOut { reason: "no room".to_owned() },
                Some(git) => GitDirectory::Shown(git.source.clone()),
            };
            Arc::new(found)
        };
        let sources = (0..=disk::GITS).map(with).collect();
        Self { tree, store, sources }
    }
}

impl World {
    /// Makes the next set the current one.
    pub(super) fn follow(&mut self, choice: Choice) -> Arc<Snapshot> {
        let chosen = choice.revisions.map(|revision| revision % self.revisions[0].len());
        let choice = Choice { revisions: chosen, ..choice };
        let mut id = [0; 32];
        for (place, revision) in id.iter_mut().zip(chosen) {
            *place = u8::try_from(revision).unwrap();
        }
        (id[2], id[3]) = (u8::try_from(choice.on_surface).unwrap(), u8::from(choice.is_whole));
        id[8..16].copy_from_slice(&disk::digest(&self.disk));
        let of_git = [0, 1].map(|source| {
            self.revisions[source][chosen[source]].sources[choice.gits[source]].clone()
        });
        let mut next = Snapshot {
            id: RevisionSetId(id),
            since: SystemTime::UNIX_EPOCH,
            sources: of_git.into_iter().chain([self.disk.source.clone()]).collect(),
            namespace: self.namespace(choice),
            ..Snapshot::default()
        };
        if let Some((before, _)) = self.sets.last() {
            next.serial = before.serial + u64::from(before.id != next.id);
            let is_same = |old: &Shown, new: &Shown| {
                old.object == new.object
                    && old.source_path == new.source_path
                    && old.source == new.source
                    && before.git_directory(old).is_same(next.git_directory(new))
            };
            let (now_secs, serial) = (1000, next.serial);
            let remembered = &mut self.remembered;
            next.namespace = Succession { is_same: &is_same, now_secs, serial, remembered }
                .follow(&before.namespace, &next.namespace);
            if next.serial != before.serial {
                self.kept.push(self.sets.len() - 1);
            }
        }
        let spare = (self.kept.len() + 1).saturating_sub(SETS_KEPT);
        self.kept.drain(..spare);
        let next = Arc::new(next);
        self.sets.push((next.clone(), choice));
        next
    }

    fn store(&self, choice: Choice, source: usize) -> &dyn Store {
        match source {
            LIVE => self.disk.source.store.as_ref(),
            _ => self.revisions[source][choice.revisions[source]].store.as_ref(),
        }
    }

    fn namespace(&self, choice: Choice) -> Namespace {
        let shown = |source: usize, surface, source_path: RelPath| {
            let object = walk::find(self.store(choice, source), &source_path).unwrap()?;
            let revision = choice.revisions.get(source).copied().unwrap_or_default();
            let time_secs = 100 + i64::try_from(revision).unwrap();
            let source = SourceId(u32::try_from(source).unwrap());
            Some(Shown { source, surface, source_path, object, time_secs })
        };
        let surface = Some(SurfaceId(0));
        let mut entries = Vec::new();
        for name in self.skills(choice) {
            let at = path("skills").join(&Name::new(&name).unwrap());
            let entry = shown(choice.on_surface, surface, at.clone());
            entries.extend(entry.map(|shown| (at, shown)));
        }
        for source in [0, 1, LIVE] {
            let prompt = shown(source, surface, path("p"));
            let prompt = prompt.filter(|shown| shown.object.kind() != Kind::Directory);
            entries.extend(prompt.map(|shown| (path(&format!("prompts/0{source}.md")), shown)));
            let whole = choice.is_whole.then(|| shown(source, None, RelPath::root())).flatten();
            entries.extend(whole.map(|shown| (path(&format!("o/{}", source + 1)), shown)));
        }
        Namespace::new(entries, [path("tools")], 50)
    }

    /// The names in `skills` of the source that has the surface.
    fn skills(&self, choice: Choice) -> Vec<Vec<u8>> {
        let at = path("skills");
        if choice.on_surface == LIVE {
            let skills = self.disk.look(&at).and_then(|(live, _)| live.children(Links::All));
            return skills.into_iter().flatten().map(|(name, _)| name).collect();
        }
        match self.revisions[choice.on_surface][choice.revisions[choice.on_surface]].tree.at(&at) {
            Some(Tree::Directory(skills)) => {
                skills.keys().map(|name| name.as_bytes().to_vec()).collect()
            }
            Some(Tree::File(..) | Tree::Link(_) | Tree::Submodule) | None => Vec::new(),
        }
    }
}
