//! Why a path shows what it shows.

use proptest::prelude::*;

use super::tree::Tree;
use super::{config, merge, model, namespace, packages, path, random, surface};
use crate::union::explain::{Absence, Explanation, Hidden, HidingReason, explain, hiding_reason};
use crate::union::namespace::Stack;
use crate::union::surface::{EntryRule, SurfaceId};

/// The explanation of a path in the view of one surface at `tools`.
fn of(rule: &EntryRule, stack: &Stack, text: &str) -> Explanation {
    let view = namespace(stack);
    explain(std::slice::from_ref(stack), &[surface(rule)], &view, &path(text))
}

fn hidden_text(hidden: &[Hidden]) -> String {
    let text = |hidden: &Hidden| {
        let Hidden { origin, by, reason } = hidden;
        let (hidden, by_source) = (origin.source.index(), by.source.index());
        format!(" [{hidden}:{} by {by_source}:{} {reason:?}]", origin.source_path, by.source_path)
    };
    hidden.iter().map(text).collect()
}

fn text(explanation: &Explanation) -> String {
    match explanation {
        Explanation::Directory { contributors, hidden, .. } => {
            let sources: Vec<_> = contributors.iter().map(|source| source.index()).collect();
            format!("directory of {sources:?}{}", hidden_text(hidden))
        }
        Explanation::Entry { winner, hidden, .. } => {
            let path = explanation.source_path().expect("an entry is somewhere in its source");
            format!("{}:{path} at {}{}", winner.source.index(), winner.path, hidden_text(hidden))
        }
        Explanation::Absent(absence) => match absence {
            Absence::NoSuchPlace { existing } => format!("no place below {existing}"),
            Absence::NoSurface { surface } => format!("no surface {}", surface.0),
            Absence::NeverShown { .. } => "never shown".into(),
            Absence::NoEntry { existing, .. } => format!("no entry below {existing}"),
            Absence::Hidden { hidden, .. } => format!("hidden{}", hidden_text(hidden)),
        },
    }
}

#[test]
fn every_kind_of_path_is_explained() {
    let below = Tree::of(&["productivity/slack/m", "crypto/etherscan/m", "crypto/note", "jira/m"]);
    let above = Tree::of(&["slack/m", "jira/x", "crypto/p/m", "note/m"]);
    let stack = merge(&packages(2), &[below, above]);
    let cases = [
        (
            "tools",
            "directory of [0, 1] [0:sub/jira by 1:sub/jira SamePath] \
             [0:sub/productivity/slack by 1:sub/slack SamePackage]",
        ),
        (".", "directory of [0, 1]"),
        ("owner", "directory of [0]"),
        ("owner/repo", "0:. at owner/repo"),
        ("owner/repo/deep/file", "0:deep/file at owner/repo"),
        ("owner/other", "no place below owner"),
        ("nowhere/x", "no place below ."),
        ("tools/crypto", "directory of [0, 1]"),
        ("tools/crypto/note", "0:sub/crypto/note at tools/crypto/note"),
        (
            "tools/slack",
            "1:sub/slack at tools/slack [0:sub/productivity/slack by 1:sub/slack SamePackage]",
        ),
        (
            "tools/slack/cli/main.py",
            "1:sub/slack/cli/main.py at tools/slack \
             [0:sub/productivity/slack by 1:sub/slack SamePackage]",
        ),
        ("tools/jira", "1:sub/jira at tools/jira [0:sub/jira by 1:sub/jira SamePath]"),
        (
            "tools/productivity/slack",
            "hidden [0:sub/productivity/slack by 1:sub/slack SamePackage]",
        ),
        (
            "tools/productivity/slack/m",
            "hidden [0:sub/productivity/slack by 1:sub/slack SamePackage]",
        ),
        ("tools/productivity", "hidden [0:sub/productivity/slack by 1:sub/slack SamePackage]"),
        ("tools/productivity/other", "no entry below tools"),
        ("tools/crypto/other", "no entry below tools/crypto"),
        ("tools/nothing", "no entry below tools"),
        ("tools/never", "never shown"),
        ("tools/crypto/.git", "never shown"),
    ];
    for (asked, expected) in cases {
        assert_eq!(text(&of(&packages(2), &stack, asked)), expected, "{asked}");
    }
}

#[test]
fn what_stands_above_or_below_is_said() {
    let stack = merge(&packages(2), &[Tree::of(&["a"]), Tree::of(&["a/p/m"])]);
    let explained = text(&of(&packages(2), &stack, "tools/a"));
    assert_eq!(explained, "directory of [1] [0:sub/a by 1:sub/a/p Below]");
    let stack = merge(&packages(2), &[Tree::of(&["a/p/m", "a/q/m"]), Tree::of(&["a"])]);
    let explained = text(&of(&packages(2), &stack, "tools/a/q"));
    assert_eq!(
        explained,
        "1:sub/a/q at tools/a [0:sub/a/p by 1:sub/a Above] [0:sub/a/q by 1:sub/a Above]"
    );
}

#[test]
fn a_winner_names_all_that_it_hides() {
    // `productivity` of source 2 is the topmost that hides the package of source 0; `slack` of source 1 hides it too.
    let files: [&[&str]; 3] = [&["productivity/slack/m"], &["slack/m"], &["productivity"]];
    let stack = merge(&packages(2), &files.map(Tree::of));
    let explained = text(&of(&packages(2), &stack, "tools/slack"));
    let hidden = "[0:sub/productivity/slack by 1:sub/slack SamePackage]";
    assert_eq!(explained, format!("1:sub/slack at tools/slack {hidden}"));
}

#[test]
fn a_surface_that_is_not_in_the_view_is_named() {
    let mut prompts = surface(&EntryRule::Prompts);
    prompts.at = path("extra/prompts");
    let surfaces = [surface(&EntryRule::Children), prompts];
    let stacks = [Stack::default(), Stack::default()];
    let view = namespace(&stacks[0]);
    for asked in ["extra", "extra/prompts"] {
        let explained = explain(&stacks, &surfaces, &view, &path(asked));
        let expected = Absence::NoSurface { surface: SurfaceId(1) };
        assert_eq!(explained, Explanation::Absent(expected), "{asked}");
    }
    let explained = explain(&stacks, &surfaces, &view, &path("extra/prompts/x"));
    assert_eq!(text(&explained), "no entry below .");
}

#[test]
fn reasons_are_told_apart() {
    let all = Tree::of(&["a/slack/m", "slack/slack/m", "slack/x", "b"]).entries(&packages(2), 0);
    let other = Tree::of(&["slack/m", "b", "a/x"]).entries(&packages(2), 1);
    let find = |entries: &[crate::union::entries::Entry], text: &str| {
        let found = entries.iter().find(|entry| entry.path == path(text));
        found.unwrap_or_else(|| panic!("no entry `{text}` among {entries:?}")).clone()
    };
    for (later, earlier, expected) in [
        ("slack", "a/slack", Some(HidingReason::SamePackage)),
        ("slack", "slack/slack", Some(HidingReason::SamePackage)),
        ("slack", "slack/x", Some(HidingReason::Above)),
        ("b", "b", Some(HidingReason::SamePath)),
        ("a", "a/slack", Some(HidingReason::Above)),
        ("b", "a/slack", None),
    ] {
        let (later, earlier) = (find(&other, later), find(&all, earlier));
        assert_eq!(hiding_reason(&later, &earlier), expected, "{later:?} {earlier:?}");
    }
    let (later, earlier) = (find(&all, "a/slack"), find(&other, "a"));
    assert_eq!(hiding_reason(&later, &earlier), Some(HidingReason::Below));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_path_of_every_source_is_explained(rule in random::rules(), trees in random::trees()) {
        let stack = merge(&rule, &trees);
        let view = namespace(&stack);
        let surfaces = [surface(&rule)];
        let shown = model::reachable(&rule, &trees);
        let mut asked: Vec<_> = trees.iter().flat_map(|tree| tree.paths().into_keys()).collect();
        asked.extend(shown.keys().cloned());
        for asked in asked {
            let whole = path("tools").concat(&path(&asked));
            let explained = explain(std::slice::from_ref(&stack), &surfaces, &view, &whole);
            match (&explained, shown.get(&asked)) {
                (Explanation::Directory { .. }, Some(None)) => {}
                (Explanation::Entry { winner, .. }, Some(Some(source))) => {
                    prop_assert_eq!(winner.source.index(), *source);
                }
                // Another source's entry stands above; whether it holds the rest, its store says.
                (Explanation::Entry { below, .. }, None) => prop_assert!(!below.is_root()),
                // What a source holds and the view does not is hidden, and by whom is said.
                (Explanation::Absent(Absence::Hidden { hidden, .. }), None) => {
                    prop_assert!(!hidden.is_empty());
                    for hidden in hidden {
                        prop_assert!(hidden.by.source > hidden.origin.source);
                    }
                }
                (other, shown) => prop_assert!(false, "{asked}: {other:?}, but {shown:?}"),
            }
        }
    }
}
