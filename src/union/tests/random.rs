//! Random layers: the code against the model, and properties that hold for all of them.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::tree::Tree;
use super::{config, layers, merge, model, namespace, packages, reachable};
use crate::union::explain::hiding_reason;
use crate::union::namespace::{Layer, Stack};
use crate::union::source::SourceId;
use crate::union::surface::EntryRule;

/// Names that clash often: plain ones, such as no package may have, the marker, and a prompt's.
const NAMES: [&str; 7] = ["a", "b", "c", "_a", ".a", "m", "00-o__r.md"];

/// A directory up to three levels deep.
fn directories() -> impl Strategy<Value = Tree> {
    let file = Just(Tree::File);
    let marked = btree_map(select(vec!["m", "x"]), Just(Tree::File), 0..3);
    let marked = marked.prop_map(|files| {
        Tree::Directory(files.into_iter().map(|(name, file)| (name.to_owned(), file)).collect())
    });
    let mut tree = prop_oneof![2 => file, 5 => marked].boxed();
    for _ in 0..2 {
        let below = btree_map(select(NAMES.to_vec()), tree.clone(), 0..4).prop_map(|children| {
            let named = children.into_iter().map(|(name, child)| (name.to_owned(), child));
            Tree::Directory(named.collect())
        });
        tree = prop_oneof![1 => tree, 3 => below].boxed();
    }
    btree_map(select(NAMES.to_vec()), tree, 0..5).prop_map(|children| {
        Tree::Directory(
            children.into_iter().map(|(name, child)| (name.to_owned(), child)).collect(),
        )
    })
}

/// Up to five sources, most of which have a directory at the sub-directory, some a file.
pub(super) fn trees() -> impl Strategy<Value = Vec<Tree>> {
    vec(prop_oneof![6 => directories(), 1 => Just(Tree::File)], 0..6)
}

pub(super) fn rules() -> impl Strategy<Value = EntryRule> {
    prop_oneof![
        2 => Just(EntryRule::Children),
        6 => (0_u32..4).prop_map(packages),
        2 => Just(EntryRule::Prompts),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_view_is_the_models(rule in rules(), trees in trees()) {
        let stack = merge(&rule, &trees);
        prop_assert_eq!(reachable(&trees, &stack), model::reachable(&rule, &trees));
    }

    #[test]
    fn the_topmost_hider_is_the_models(rule in rules(), trees in trees()) {
        let stack = merge(&rule, &trees);
        let model = model::all_entries(&rule, &trees);
        prop_assert_eq!(stack.placed.len(), model.len());
        for (position, placed) in stack.placed.iter().enumerate() {
            let same = |other: &model::ModelEntry| {
                other.layer == placed.source.index() && other.path == placed.entry.path.to_string()
            };
            let earlier = model.iter().find(|other| same(other)).expect("the model has it");
            let hider = placed.hidden_by.map(|hider| &stack.placed[hider]);
            // The topmost layer that hides it; within a layer several entries may.
            let hiders = model.iter().filter(|later| model::hides(later, earlier));
            let topmost = hiders.map(|later| later.layer).max();
            prop_assert_eq!(hider.map(|hider| hider.source.index()), topmost);
            if let Some(hider) = hider {
                prop_assert!(hiding_reason(&hider.entry, &placed.entry).is_some());
            }
            for hidden in &placed.hides {
                prop_assert_eq!(stack.placed[*hidden].hidden_by, Some(position));
            }
        }
        let hidden = stack.placed.iter().filter(|placed| placed.hidden_by.is_some()).count();
        prop_assert_eq!(hidden, stack.placed.iter().map(|placed| placed.hides.len()).sum::<usize>());
    }

    #[test]
    fn a_single_source_shows_everything(rule in rules(), tree in directories()) {
        let trees = [tree];
        let shown = reachable(&trees, &merge(&rule, &trees));
        let all: Vec<_> = trees[0].paths().into_keys().collect();
        prop_assert_eq!(shown.into_keys().collect::<Vec<_>>(), all);
    }

    #[test]
    fn entries_are_hidden_by_later_sources_only(rule in rules(), trees in trees()) {
        let stack = merge(&rule, &trees);
        for placed in &stack.placed {
            let hider = placed.hidden_by.map(|hider| stack.placed[hider].source);
            prop_assert!(hider.is_none_or(|hider| hider > placed.source));
        }
    }

    #[test]
    fn only_the_order_of_the_layers_counts(rule in rules(), trees in trees()) {
        let plain = merge(&rule, &trees);
        let mut stirred = Vec::new();
        for mut layer in layers(&rule, &trees) {
            layer.entries.reverse();
            stirred.push(layer);
            stirred.push(Layer { source: SourceId(99), entries: Vec::new() });
        }
        prop_assert_eq!(namespace(&Stack::merge(stirred)), namespace(&plain));
    }

    #[test]
    fn a_source_listed_twice_hides_itself(rule in rules(), tree in directories()) {
        let once = std::slice::from_ref(&tree);
        let once = reachable(once, &merge(&rule, once));
        let trees = [tree.clone(), tree];
        let twice = reachable(&trees, &merge(&rule, &trees));
        prop_assert!(twice.values().all(|source| *source != Some(0)));
        prop_assert!(once.keys().eq(twice.keys()));
    }
}
