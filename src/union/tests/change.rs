//! What differs between two namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::tree::Tree;
use super::{config, merge, namespace, packages, path, random};
use crate::union::change::{Change, Side, changes};
use crate::union::name::RelPath;
use crate::union::namespace::{Directory, Item, Namespace, Shown};
use crate::union::object::Object;

/// Every name of a namespace: an entry's object, or `None` for a merged directory.
type Flat = BTreeMap<RelPath, Option<Object>>;

fn flatten(directory: &Directory, at: &RelPath, flat: &mut Flat) {
    for (name, item) in &directory.items {
        let at = at.join(name);
        match item {
            Item::Directory(directory) => {
                flatten(directory, &at, flat);
                flat.insert(at, None);
            }
            Item::Entry(shown) => {
                flat.insert(at, Some(shown.object.clone()));
            }
        }
    }
}

fn flat(namespace: &Namespace) -> Flat {
    let mut flat = Flat::new();
    flatten(namespace.root(), &RelPath::root(), &mut flat);
    flat
}

fn apply(changes: &[Change], flat: &mut Flat) {
    for change in changes {
        flat.retain(|path, _| path.strip_prefix(&change.path).is_none());
        match &change.after {
            Side::Absent => {}
            Side::Entry(shown) => {
                flat.insert(change.path.clone(), Some(shown.object.clone()));
            }
            Side::Directory(directory) => {
                flat.insert(change.path.clone(), None);
                flatten(directory, &change.path, flat);
            }
        }
    }
}

fn is_same(one: &Shown, other: &Shown) -> bool {
    one.object == other.object
}

fn of(trees: &[&[&str]]) -> Namespace {
    let trees: Vec<_> = trees.iter().map(|files| Tree::of(files)).collect();
    namespace(&merge(&packages(2), &trees))
}

/// Changes as `path: before > after`.
fn texts(before: &Namespace, after: &Namespace) -> Vec<String> {
    let word = |side: &Side| match side {
        Side::Absent => "absent".to_owned(),
        Side::Directory(directory) => format!("directory of {}", directory.items.len()),
        Side::Entry(shown) => format!("entry of {}", shown.source.index()),
    };
    let text = |change: Change| {
        format!("{}: {} > {}", change.path, word(&change.before), word(&change.after))
    };
    changes(before, after, is_same).into_iter().map(text).collect()
}

#[test]
fn each_changed_name_is_one_change() {
    let below: &[&str] = &["a/m", "c/p/m", "c/x", "file"];
    let cases: [(&[&str], &[&str]); 5] = [
        (&["z/m"], &["tools/z: absent > entry of 1"]),
        (&["a/m"], &["tools/a: entry of 0 > entry of 1"]),
        (&["c"], &["tools/c: directory of 2 > entry of 1"]),
        (&["d/q/m"], &["tools/d: absent > directory of 1"]),
        (&["p/m"], &["tools/c/p: entry of 0 > absent", "tools/p: absent > entry of 1"]),
    ];
    for (above, expected) in cases {
        assert_eq!(texts(&of(&[below]), &of(&[below, above])), expected, "{above:?}");
    }
    let back = texts(&of(&[below, &["c"]]), &of(&[below]));
    assert_eq!(back, ["tools/c: entry of 1 > directory of 2"]);
}

#[test]
fn equal_trees_have_no_changes_and_shared_ones_are_not_looked_into() {
    let one = of(&[&["a/m", "c/p/m"]]);
    assert_eq!(changes(&one, &of(&[&["a/m", "c/p/m"]]), is_same), []);
    let shared = one.clone();
    assert!(Arc::ptr_eq(one.root(), shared.root()));
    assert_eq!(changes(&one, &shared, |_, _| panic!("looked into a shared directory")), []);
}

#[test]
fn the_caller_decides_what_is_the_same() {
    let one = of(&[&["a/m"]]);
    let found = changes(&one, &of(&[&["a/m"]]), |_, _| false);
    let paths: Vec<_> = found.into_iter().map(|change| change.path).collect();
    assert_eq!(paths, [path("owner/repo"), path("tools/a")]);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changes_applied_to_the_one_give_the_other(
        rule in random::rules(),
        before in random::trees(),
        after in random::trees(),
        kept in 0_usize..6,
    ) {
        // Some sources stay, so that much is unchanged.
        let after: Vec<_> = before.iter().take(kept).chain(after.iter()).cloned().collect();
        let before = namespace(&merge(&rule, &before));
        let after = namespace(&merge(&rule, &after));
        let found = changes(&before, &after, is_same);
        prop_assert!(found.is_sorted_by(|one, other| one.path < other.path));
        let mut flat_map = flat(&before);
        apply(&found, &mut flat_map);
        prop_assert_eq!(flat_map, flat(&after));
        // Backwards it is the same list with its sides swapped, and no change is without effect.
        let back = changes(&after, &before, is_same);
        prop_assert_eq!(found.len(), back.len());
        for (change, back) in found.iter().zip(&back) {
            prop_assert_eq!((&change.before, &change.after), (&back.after, &back.before));
            prop_assert_ne!(&change.before, &change.after);
        }
    }
}
