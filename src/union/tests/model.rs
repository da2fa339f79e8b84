//! The union once more, from the prose of docs/SEMANTICS.md and as plainly as can be: quadratic, on paths as text.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{MARKER, Tree};
use crate::union::surface::EntryRule;

/// An entry of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelEntry {
    pub(super) layer: usize,
    pub(super) path: String,
    /// The name it has as a package.
    pub(super) package: Option<String>,
}

fn levels(path: &str) -> usize {
    path.split('/').count()
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// True if `path` is `above` or below it.
pub(super) fn is_within(path: &str, above: &str) -> bool {
    path == above || path.starts_with(&format!("{above}/"))
}

fn all_above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// The entries of one tree.
pub(super) fn entries(rule: &EntryRule, tree: &Tree, layer: usize) -> Vec<ModelEntry> {
    let paths = tree.paths();
    let is_plain_directory =
        |path: &str| paths[path] && !last(path).starts_with('.') && !last(path).starts_with('_');
    let is_marked = |path: &str| paths.get(&format!("{path}/{MARKER}")) == Some(&false);
    let is_package = |path: &str| match rule {
        EntryRule::Packages { depth, .. } => {
            levels(path) <= *depth as usize
                && is_plain_directory(path)
                && is_marked(path)
                && all_above(path).all(|above| is_plain_directory(above) && !is_marked(above))
        }
        EntryRule::Children | EntryRule::Prompts => false,
    };
    let is_category = |path: &str| {
        is_plain_directory(path)
            && !is_marked(path)
            && paths
                .keys()
                .any(|other| other != path && is_within(other, path) && is_package(other))
    };
    if (rule, tree) == (&EntryRule::Prompts, &Tree::File) {
        return vec![ModelEntry { layer, path: format!("{layer:02}-o__r.md"), package: None }];
    }
    let is_entry = |path: &str| !is_category(path) && all_above(path).all(is_category);
    let entry = |path: &String| ModelEntry {
        layer,
        path: path.clone(),
        package: is_package(path).then(|| last(path).to_owned()),
    };
    paths.keys().filter(|path| is_entry(path)).map(entry).collect()
}

/// True if an entry hides another.
pub(super) fn hides(later: &ModelEntry, earlier: &ModelEntry) -> bool {
    later.layer > earlier.layer
        && ((later.package.is_some() && later.package == earlier.package)
            || is_within(&later.path, &earlier.path)
            || is_within(&earlier.path, &later.path))
}

/// All entries of all trees.
pub(super) fn all_entries(rule: &EntryRule, trees: &[Tree]) -> Vec<ModelEntry> {
    trees.iter().enumerate().flat_map(|(layer, tree)| entries(rule, tree, layer)).collect()
}

/// Every path that can be reached on the surface: in an entry the layer it comes from, else `None`.
pub(super) fn reachable(rule: &EntryRule, trees: &[Tree]) -> BTreeMap<String, Option<usize>> {
    let all = all_entries(rule, trees);
    let mut found = BTreeMap::new();
    for entry in all.iter().filter(|entry| !all.iter().any(|later| hides(later, entry))) {
        let inside: BTreeSet<_> = match &trees[entry.layer] {
            Tree::File => BTreeSet::from([entry.path.clone()]),
            tree @ Tree::Directory(_) => {
                tree.paths().into_keys().filter(|path| is_within(path, &entry.path)).collect()
            }
        };
        found.extend(all_above(&entry.path).map(|above| (above.to_owned(), None)));
        found.extend(inside.into_iter().map(|path| (path, Some(entry.layer))));
    }
    found
}
