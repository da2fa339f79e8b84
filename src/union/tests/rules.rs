//! The entry rules and hiding, by tables. The numbers are those of docs/SEMANTICS.md.

use super::tree::Tree;
use super::{layers, merge, name, namespace, packages, path, reachable};
use crate::union::entries::EntryKey;
use crate::union::name::RelPath;
use crate::union::namespace::{Item, Layer, Namespace, Stack, last_of_each_name};
use crate::union::source::SourceId;
use crate::union::surface::EntryRule;

/// The entries of one tree, each as its path, with `!` behind a package.
fn entries(rule: &EntryRule, files: &[&str]) -> Vec<String> {
    let entries = Tree::of(files).entries(rule, 0);
    let text = |entry: &crate::union::entries::Entry| match &entry.key {
        EntryKey::Package(name) => {
            assert_eq!(Some(name), entry.path.last());
            format!("{}!", entry.path)
        }
        EntryKey::Path => entry.path.to_string(),
    };
    entries.iter().map(text).collect()
}

/// The visible entries, each as `path=source`, sorted.
fn visible(rule: &EntryRule, trees: &[&[&str]]) -> Vec<String> {
    let trees: Vec<_> = trees.iter().map(|files| Tree::of(files)).collect();
    let stack = merge(rule, &trees);
    let mut found: Vec<_> = stack
        .visible()
        .map(|placed| format!("{}={}", placed.entry.path, placed.source.index()))
        .collect();
    found.sort();
    found
}

#[test]
fn s6_a_later_entry_hides_an_earlier_one_whole() {
    let trees = [Tree::of(&["a/only-below", "a/both", "b/x"]), Tree::of(&["a/both", "a/deep/x"])];
    let shown = reachable(&trees, &merge(&EntryRule::Children, &trees));
    let shown: Vec<_> = shown.iter().map(|(path, source)| (path.as_str(), *source)).collect();
    let above = [("a", Some(1)), ("a/both", Some(1)), ("a/deep", Some(1)), ("a/deep/x", Some(1))];
    assert_eq!(shown, [&above[..], &[("b", Some(0)), ("b/x", Some(0))]].concat());
}

#[test]
fn s6_types_do_not_matter_and_the_last_of_many_wins() {
    let rule = EntryRule::Children;
    assert_eq!(visible(&rule, &[&["a/x"], &["a"]]), ["a=1"]);
    assert_eq!(visible(&rule, &[&["a"], &["a/x"]]), ["a=1"]);
    assert_eq!(visible(&rule, &[&["a", "b"], &["a", "b"], &["a"]]), ["a=2", "b=1"]);
}

#[test]
fn s6_a_hidden_entry_still_hides() {
    // `slack` of source 1 is hidden by the file of source 2, and hides the package of source 0 all the same.
    let trees: [&[&str]; 3] = [&["chat/slack/m"], &["slack/m"], &["slack"]];
    assert_eq!(visible(&packages(2), &trees), ["slack=2"]);
}

#[test]
fn s7_a_package_is_a_plain_directory_with_the_marker() {
    let cases: [(&[&str], &[&str]); 9] = [
        (&["a/m"], &["a!"]),
        (&["a/x"], &["a"]),
        (&["a/m/x"], &["a"]),
        (&["a"], &["a"]),
        (&["m"], &["m"]),
        (&["m/m"], &["m!"]),
        (&[".a/m", "_a/m"], &[".a", "_a"]),
        (&["a/m", "a/b/m"], &["a!"]),
        (&["a/b/c/m"], &["a"]),
    ];
    for (files, expected) in cases {
        assert_eq!(entries(&packages(2), files), expected, "{files:?}");
    }
}

#[test]
fn s8_packages_of_one_name_hide_each_other_whatever_their_category() {
    let cases: [(&[&[&str]], &[&str]); 6] = [
        (&[&["productivity/slack/m"], &["slack/m"]], &["slack=1"]),
        (&[&["slack/m"], &["productivity/slack/m"]], &["productivity/slack=1"]),
        (&[&["a/slack/m", "a/jira/m"], &["b/slack/m"]], &["a/jira=0", "b/slack=1"]),
        // Name keys apply between packages only.
        (&[&["a/slack/m"], &["slack/x"]], &["a/slack=0", "slack=1"]),
        (&[&["a/slack", "a/p/m"], &["slack/m"]], &["a/p=0", "a/slack=0", "slack=1"]),
        (&[&["a/slack/m"], &["Slack/m"]], &["Slack=1", "a/slack=0"]),
    ];
    for (trees, expected) in cases {
        assert_eq!(visible(&packages(2), trees), expected, "{trees:?}");
    }
}

#[test]
fn s9_a_later_entry_hides_what_stands_at_above_or_below_its_path() {
    let cases: [(&[&[&str]], &[&str]); 6] = [
        // At: a file and a package.
        (&[&["a/m"], &["a"]], &["a=1"]),
        // Above: a directory without packages hides the packages of a category.
        (&[&["a/p/m", "a/q/m"], &["a/x"]], &["a=1"]),
        (&[&["a/p/m", "a/x"], &["a/m"]], &["a=1"]),
        // Below: a package in a category hides the file or the package that stands where the category must be.
        (&[&["a"], &["a/p/m"]], &["a/p=1"]),
        (&[&["a/m"], &["a/p/m"]], &["a/p=1"]),
        // A name that only begins alike is neither.
        (&[&["ab/m"], &["a/p/m"]], &["a/p=1", "ab=0"]),
    ];
    for (trees, expected) in cases {
        assert_eq!(visible(&packages(2), trees), expected, "{trees:?}");
    }
}

#[test]
fn s10_categories_are_merged_and_their_other_children_are_entries() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&["a/p/m", "a/x", "a/_d/m", "a/d/x"], &["a/_d", "a/d", "a/p!", "a/x"]),
        (&["_a/p/m"], &["_a"]),
        (&[".a/p/m"], &[".a"]),
        (&["a/_p/m"], &["a"]),
    ];
    for (files, expected) in cases {
        assert_eq!(entries(&packages(2), files), expected, "{files:?}");
    }
    let merged = visible(&packages(2), &[&["a/p/m", "a/x"], &["a/q/m", "a/x"]]);
    assert_eq!(merged, ["a/p=0", "a/q=1", "a/x=1"]);
}

#[test]
fn s10_depth_limits_where_packages_are_looked_for() {
    let files = &["a/m", "b/c/m", "d/e/f/m"];
    assert_eq!(entries(&packages(1), files), ["a!", "b", "d"]);
    assert_eq!(entries(&packages(2), files), ["a!", "b/c!", "d"]);
    assert_eq!(entries(&packages(3), files), ["a!", "b/c!", "d/e/f!"]);
    assert_eq!(entries(&packages(0), files), ["a", "b", "d"]);
}

#[test]
fn s11_entries_of_one_source_never_hide_each_other() {
    let trees: [&[&str]; 1] = [&["a/slack/m", "b/slack/m", "slack/m", "slack.py"]];
    let all = ["a/slack=0", "b/slack=0", "slack.py=0", "slack=0"];
    assert_eq!(visible(&packages(2), &trees), all);
    let hidden: [&[&str]; 2] = [trees[0], &["slack/m"]];
    assert_eq!(visible(&packages(2), &hidden), ["slack.py=0", "slack=1"]);
}

#[test]
fn s12_a_prompt_file_is_named_by_position_and_source() {
    let trees: [&[&str]; 3] = [&["."], &["x"], &["."]];
    let expected = ["00-o__r.md=0", "02-o__r.md=2", "x=1"];
    assert_eq!(visible(&EntryRule::Prompts, &trees), expected);
    let file = Tree::File;
    let entry = &file.entries(&EntryRule::Prompts, 100)[0];
    assert_eq!(entry.path, path("100-o__r.md"));
    assert_eq!(entry.source_path, path("sub"));
}

#[test]
fn s12_a_prompt_of_two_long_names_is_named_by_position_alone() {
    use crate::union::entries::{Offer, entries};
    let long = name("x".repeat(200));
    let source = crate::union::source::SourceName { owner: long.clone(), repo: long };
    let offer = Offer::File(super::tree::object(0, "sub", false));
    let found = entries(&EntryRule::Prompts, offer, &path("sub"), &source, 3);
    assert_eq!(found[0].path, path("03.md"));
}

#[test]
fn s13_every_direct_child_is_an_entry() {
    let files = &["a/m", "b/p/m", ".hidden", "_x/y", "file"];
    let expected = [".hidden", "_x", "a", "b", "file"];
    assert_eq!(entries(&EntryRule::Children, files), expected);
    assert_eq!(entries(&EntryRule::Prompts, files), expected);
    let merged = visible(&EntryRule::Prompts, &[&["a.md", "b.md"], &["b.md"]]);
    assert_eq!(merged, ["a.md=0", "b.md=1"]);
}

#[test]
fn s14_trailing_slashes_and_dots_of_a_subdirectory_are_ignored() {
    for text in ["a/b", "a/b/", "a/b///", "./a/./b", "a/b/."] {
        assert_eq!(path(text), path("a/b"), "{text}");
    }
    assert!(path(".").is_root());
    for text in ["", "/a", "a//b", "..", "a/../b", "a/\0"] {
        assert!(RelPath::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn s16_a_subdirectory_that_is_a_file_offers_nothing() {
    for rule in [EntryRule::Children, packages(2)] {
        assert_eq!(entries(&rule, &["."]), [""; 0]);
        assert_eq!(visible(&rule, &[&["a/m"], &["."]]), ["a=0"]);
    }
}

#[test]
fn s23_names_are_bytes_and_compared_as_bytes() {
    let mut all = Vec::new();
    for (source, bytes) in [(0, &b"\xff\xfe"[..]), (1, b"\xff\xff"), (2, b"A"), (3, b"a")] {
        let mut layer = layers(&EntryRule::Children, &[Tree::of(&["x"])]).remove(0);
        layer.source = SourceId(source);
        layer.entries[0].path = [name(bytes)].into_iter().collect();
        all.push(layer);
    }
    let stack = Stack::merge(all);
    assert_eq!(stack.visible().count(), 4);
    let view = namespace(&stack);
    let Some((Item::Directory(tools), _)) = view.resolve(&path("tools")) else { panic!() };
    let names: Vec<_> = tools.items.iter().map(|(name, _)| name.as_bytes()).collect();
    assert_eq!(names, [&b"A"[..], b"a", b"\xff\xfe", b"\xff\xff"]);
}

#[test]
fn s3_of_a_name_that_is_listed_twice_the_last_is_shown() {
    let names = ["a", "b", "a", "c", "b"];
    let ids = (0..).map(SourceId).zip(&names);
    let last = last_of_each_name(ids.collect::<Vec<_>>().into_iter());
    assert_eq!(last, [SourceId(2), SourceId(3), SourceId(4)]);
}

#[test]
fn no_layers_make_an_empty_stack_and_directories_that_must_exist_do() {
    assert_eq!(Stack::merge(Vec::new()), Stack::default());
    let empty = Layer { source: SourceId(0), entries: Vec::new() };
    assert_eq!(Stack::merge(vec![empty]), Stack::default());
    let always = [path("tools"), path(".agents/skills")];
    let view = Namespace::new([], always.clone(), 9);
    for directory in always {
        let Some((Item::Directory(found), below)) = view.resolve(&directory) else { panic!() };
        assert_eq!((found.items.len(), found.time_secs, below.is_root()), (0, 9, true));
    }
    assert!(view.resolve(&path("tools/x")).is_none());
    assert!(view.root().get(name("absent").as_bytes()).is_none());
}

#[test]
fn a_directory_has_the_time_of_its_newest_entry() {
    let trees = [Tree::of(&["c/p/m"])];
    let view = namespace(&merge(&packages(2), &trees));
    assert_eq!(view.root().time_secs, 7);
}
