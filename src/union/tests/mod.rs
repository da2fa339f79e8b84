//! The entry rules and hiding by tables; everything by comparison with a model.

mod change;
mod explain;
mod model;
mod random;
mod rules;
mod tree;

use std::collections::BTreeMap;

use proptest::prelude::ProptestConfig;

use super::name::{Name, RelPath};
use super::namespace::{Layer, Namespace, Shown, Stack};
use super::source::SourceId;
use super::surface::{EntryRule, Presence, Surface, SurfaceId};
use tree::Tree;

/// A failure becomes a named test, so none is kept in a file.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

fn name(bytes: impl AsRef<[u8]>) -> Name {
    let shown = bytes.as_ref().escape_ascii().to_string();
    Name::new(bytes).unwrap_or_else(|error| panic!("`{shown}` is no name: {error:?}"))
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap_or_else(|error| panic!("{text:?} is no path: {error:?}"))
}

fn packages(depth: u32) -> EntryRule {
    EntryRule::Packages { marker: name(tree::MARKER), depth }
}

fn surface(rule: &EntryRule) -> Surface {
    Surface {
        name: "tools".into(),
        at: path("tools"),
        subdir: Some(path("sub")),
        rule: rule.clone(),
        presence: Presence::Always,
        never_shown: vec![name("never")],
    }
}

/// Layers of these trees, the n-th with source n and everything in it below `sub`.
fn layers(rule: &EntryRule, trees: &[Tree]) -> Vec<Layer> {
    let sources = (0..).map(SourceId);
    let layers = trees.iter().enumerate().zip(sources);
    let layers = layers
        .map(|((position, tree), source)| Layer { source, entries: tree.entries(rule, position) });
    layers.collect()
}

fn merge(rule: &EntryRule, trees: &[Tree]) -> Stack {
    Stack::merge(layers(rule, trees))
}

/// The view of one surface at `tools`, beside one source that is shown whole.
fn namespace(stack: &Stack) -> Namespace {
    let on_surface = stack.visible().map(|placed| {
        let shown = Shown {
            source: placed.source,
            surface: Some(SurfaceId(0)),
            source_path: placed.entry.source_path.clone(),
            object: placed.entry.object.clone(),
            time_secs: 7,
        };
        (path("tools").concat(&placed.entry.path), shown)
    });
    let whole = Shown {
        source: SourceId(0),
        surface: None,
        source_path: RelPath::root(),
        object: tree::object(0, ".", true),
        time_secs: 7,
    };
    let entries = on_surface.chain([(path("owner/repo"), whole)]);
    Namespace::new(entries, [path("tools")], 3)
}

/// Every path that can be reached on the surface: in an entry the source it comes from, else `None`.
fn reachable(trees: &[Tree], stack: &Stack) -> BTreeMap<String, Option<usize>> {
    let view = namespace(stack);
    let mut found = BTreeMap::new();
    for (path, shown) in view.root().entries() {
        let Some(path) = path.strip_prefix(&self::path("tools")) else { continue };
        for len in 1..path.names().len() {
            let above: RelPath = path.names()[..len].iter().cloned().collect();
            found.insert(above.to_string(), None);
        }
        let source = shown.source.index();
        for (inside, object) in trees[source].below(source, &shown.source_path) {
            if inside.is_root() {
                assert_eq!(shown.object, object, "{path}");
            }
            let reached = path.concat(&inside).to_string();
            assert_eq!(found.insert(reached, Some(source)), None, "{path}: twice");
        }
    }
    found
}
