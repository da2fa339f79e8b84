//! What one source offers on each surface, listed as deep as the entry rules ask and no deeper.

use super::digest::Fields;
use crate::config::resolved::{Links, SourceSpec};
use crate::snapshot::{Finding, FindingKind, Unread};
use crate::store::walk::{self, Walked};
use crate::store::{Listed, Store, StoreError};
use crate::union::entries::{self, Child, Entry, Offer};
use crate::union::name::{Name, RelPath};
use crate::union::object::{Kind, Object};
use crate::union::source::SourceId;
use crate::union::surface::{EntryRule, Surface};

/// The entries of one source.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// For each surface its entries.
    pub(super) entries: Vec<Vec<Entry>>,
    /// What was found while listing them.
    pub(super) findings: Vec<Finding>,
    /// Where the operating system failed: what is listed may lack anything then.
    pub(super) failure: Option<ListingFailure>,
}

/// A failure of the operating system.
#[derive(Debug)]
pub(super) struct ListingFailure {
    /// What it said.
    pub(super) problem: String,
    /// Whether it may pass by itself.
    pub(super) is_momentary: bool,
}

/// Lists a source on all surfaces. `source` is also its position among those that the view may show.
pub(super) fn list(
    store: &dyn Store,
    spec: &SourceSpec,
    source: SourceId,
    surfaces: &[Surface],
    links: Links,
) -> Layers {
    let mut layers = Layers::default();
    for (index, surface) in surfaces.iter().enumerate() {
        let subdir = spec.subdirs.get(index).and_then(Option::as_ref);
        let Layers { findings, failure, .. } = &mut layers;
        let mut lister = Lister { store, surface, links, source, findings, failure };
        let offer = subdir.and_then(|subdir| lister.offer(subdir));
        layers.entries.push(offer.map_or_else(Vec::new, |(offer, base)| {
            entries::entries(&surface.rule, offer, &base, &spec.name, source.index())
        }));
    }
    layers
}

/// What a source is shown with of which a part cannot be read; nothing if all of it can.
pub(super) fn unread(layers: &Layers) -> Option<Unread> {
    let is_unread = |finding: &Finding| matches!(finding.kind, FindingKind::Unreadable { .. });
    layers.findings.iter().any(is_unread).then(|| {
        let mut fields = Fields::new("overlayfs-mount part 1");
        put_entries(&mut fields, layers);
        Unread { entries: fields.finish(), may_pass: layers.failure.is_some() }
    })
}

fn put_entries(fields: &mut Fields, layers: &Layers) {
    for entries in &layers.entries {
        fields.number(entries.len() as u64);
        for entry in entries {
            fields.path(&entry.path);
            fields.path(&entry.source_path);
            fields.number(u64::from(matches!(entry.key, entries::EntryKey::Package(_))));
            fields.object(&entry.object);
        }
    }
}

/// A digest of a live source's entry lists, and of its top where that is shown.
pub(super) fn listing_digest(
    layers: &Layers,
    store: &dyn Store,
    shows_top: bool,
) -> Result<[u8; 32], StoreError> {
    let mut fields = Fields::new("overlayfs-mount listing 1");
    put_entries(&mut fields, layers);
    let root = store.root()?;
    fields.object(&root);
    if shows_top {
        for listed in store.list(&root)? {
            fields.bytes(listed.name.as_bytes());
            fields.object(&listed.object);
        }
    }
    Ok(fields.finish())
}

struct Lister<'a> {
    store: &'a dyn Store,
    surface: &'a Surface,
    links: Links,
    source: SourceId,
    findings: &'a mut Vec<Finding>,
    failure: &'a mut Option<ListingFailure>,
}

impl Lister<'_> {
    /// What is at a sub-directory, with its path without links; `None` for an empty layer.
    fn offer(&mut self, subdir: &RelPath) -> Option<(Offer, RelPath)> {
        let (object, real_path) = match walk::resolve(self.store, subdir) {
            Ok(Walked::Found { object, real_path }) => (object, real_path),
            Ok(Walked::Absent) => return None,
            Ok(Walked::Leaves) => {
                self.find(subdir, FindingKind::SubdirLeavesSource);
                return None;
            }
            Ok(Walked::Loop) => {
                let error = "it goes through too many symbolic links".to_owned();
                self.find(subdir, FindingKind::Unreadable { error });
                return None;
            }
            Err(error) => {
                self.unreadable(subdir, &error);
                return None;
            }
        };
        match object.kind() {
            Kind::Directory => {
                let children = self.children(&object, &real_path, 1);
                Some((Offer::Directory(children), real_path))
            }
            Kind::File { .. } | Kind::Link => match self.surface.rule {
                EntryRule::Prompts => Some((Offer::File(object), real_path)),
                EntryRule::Children | EntryRule::Packages { .. } => {
                    self.find(subdir, FindingKind::SubdirIsAFile);
                    None
                }
            },
        }
    }

    /// The children of a directory at `path`, as members of `level` (from 1) of the surface.
    fn children(&mut self, directory: &Object, path: &RelPath, level: u32) -> Vec<Child> {
        let listed = match self.store.list(directory) {
            Ok(listed) => listed,
            Err(error) => {
                self.unreadable(path, &error);
                return Vec::new();
            }
        };
        let shown = listed
            .into_iter()
            .filter(|listed| level > 1 || !self.surface.never_shown.contains(&listed.name));
        let shown: Vec<Listed> = shown.collect();
        let mut children = Vec::with_capacity(shown.len());
        for listed in shown {
            if !self.leaves(&listed, path) {
                children.push(self.child(listed, path, level));
            }
        }
        children
    }

    fn child(&mut self, listed: Listed, parent: &RelPath, level: u32) -> Child {
        let rule = &self.surface.rule;
        let mut child = Child::leaf(listed.name, listed.object);
        let kind = child.object.kind();
        if let EntryRule::Packages { marker, .. } = rule
            && entries::may_hold_marker(rule, level, &child.name, kind)
        {
            let path = parent.join(&child.name);
            child.has_marker = self.has_marker(&child.object, &path, marker);
        }
        if !child.has_marker && entries::may_be_category(rule, level, &child.name, kind) {
            let path = parent.join(&child.name);
            child.children = self.children(&child.object, &path, level + 1);
        }
        child
    }

    /// True if the directory holds the marker: a file, or a link to one inside the source.
    fn has_marker(&mut self, directory: &Object, path: &RelPath, marker: &Name) -> bool {
        let found = self.store.lookup(directory, marker.as_bytes()).and_then(|found| {
            let Some(object) = found else { return Ok(false) };
            match object.kind() {
                Kind::File { .. } => Ok(true),
                Kind::Directory => Ok(false),
                Kind::Link => match walk::resolve(self.store, &path.join(marker))? {
                    Walked::Found { object, .. } => Ok(object.kind().is_file()),
                    Walked::Absent | Walked::Leaves | Walked::Loop => Ok(false),
                },
            }
        });
        found.unwrap_or_else(|error| {
            self.unreadable(path, &error);
            false
        })
    }

    /// True for a link that is not shown because it leaves its source, or because nobody can tell.
    fn leaves(&mut self, listed: &Listed, parent: &RelPath) -> bool {
        match self.links {
            Links::All => return false,
            Links::Inside if listed.object.kind() != Kind::Link => return false,
            Links::Inside => {}
        }
        let target = self.store.read_link(&listed.object);
        let leaves = target.and_then(|target| walk::leaves_source(self.store, parent, &target));
        leaves.unwrap_or_else(|error| {
            self.unreadable(&parent.join(&listed.name), &error);
            true
        })
    }

    fn unreadable(&mut self, path: &RelPath, error: &StoreError) {
        let is_momentary = error.is_momentary();
        if is_momentary || matches!(error, StoreError::Io(_)) {
            let failure = || ListingFailure { problem: error.to_string(), is_momentary };
            self.failure.get_or_insert_with(failure);
        }
        // A live file that went away while it was listed is no fault: the next listing knows.
        if !matches!(error, StoreError::Gone) {
            self.find(path, FindingKind::Unreadable { error: error.to_string() });
        }
    }

    fn find(&mut self, path: &RelPath, kind: FindingKind) {
        self.findings.push(Finding { source: self.source, path: path.clone(), kind });
    }
}
