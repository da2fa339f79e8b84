//! Random sequences of requests and flips against a model that says what must come as plainly as possible.

mod driver;
mod flips;
mod listing;
mod world;

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::Depth;
use crate::config::resolved::Links;
use driver::{Driver, From, Op};
use world::{Choice, Tree};

/// A sequence of requests and flips, on these revisions of two sources.
#[derive(Debug, Clone)]
struct Sequence {
    links: Links,
    trees: [Vec<Tree>; 2],
    first: Choice,
    ops: Vec<Op>,
}

impl Sequence {
    fn run(self) {
        let mut driver = Driver::new(self.links, self.trees, self.first);
        for op in &self.ops {
            driver.run(op);
        }
        driver.end();
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "x"];

fn leaf() -> impl Strategy<Value = Tree> {
    let targets = ["a", "../x", "../../x/b", "../../..", "x/../../p", "/a"];
    prop_oneof![
        4 => (0_u8..5, any::<bool>()).prop_map(|(content, is_executable)| Tree::File(content, is_executable)),
        2 => select(targets.to_vec()).prop_map(Tree::Link),
        1 => Just(Tree::Submodule),
    ]
}

fn directory(child: impl Strategy<Value = Tree>) -> impl Strategy<Value = Tree> {
    btree_map(select(NAMES.to_vec()), child, 0..4).prop_map(Tree::Directory)
}

/// A skill: often one of a few, so that revisions have them in common.
fn skill() -> impl Strategy<Value = Tree> {
    let plain = Tree::Directory(BTreeMap::from([("a", Tree::File(2, false))]));
    let linked = Tree::Directory(BTreeMap::from([
        ("a", Tree::File(3, true)),
        ("b", Tree::Link("../../x/b")),
        ("c", Tree::File(4, false)),
    ]));
    prop_oneof![
        5 => select(vec![plain, linked]),
        2 => directory(prop_oneof![3 => leaf(), 1 => directory(leaf())]),
        1 => leaf(),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let skills = btree_map(select(NAMES.to_vec()), skill(), 0..4).prop_map(Tree::Directory);
    let x = prop_oneof![1 => leaf(), 2 => Just(Tree::Link("..")), 2 => directory(leaf())];
    let option = |tree: BoxedStrategy<Tree>| proptest::option::weighted(0.85, tree);
    (option(skills.boxed()), option(x.boxed()), option(leaf().boxed())).prop_map(
        |(skills, x, p)| {
            let children = [("skills", skills), ("x", x), ("p", p)];
            let there = children.into_iter().filter_map(|(name, tree)| Some((name, tree?)));
            Tree::Directory(there.collect())
        },
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    let revisions = [0_usize..3, 0..3];
    (revisions, 0_usize..2, prop::bool::weighted(0.7))
        .prop_map(|(revisions, on_surface, is_whole)| Choice { revisions, on_surface, is_whole })
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..6,
        (0_u64..6, 0_u64..8).prop_map(|(set, index)| set << 19 | index),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let node = || 0_usize..64;
    let from = prop_oneof![
        3 => Just(From::Start),
        3 => (0_usize..64).prop_map(From::Given),
        1 => offset().prop_map(From::Any),
    ];
    let depth = select(vec![Depth::Names, Depth::Attributes]);
    let place = prop_oneof![(0_u64..16), Just(u64::MAX), any::<u64>(), 0_u64..3000];
    prop_oneof![
        10 => (node(), 0_usize..64).prop_map(|(node, name)| Op::Child(node, name)),
        2 => (node(), 0_usize..64).prop_map(|(node, name)| Op::Lookup(node, name)),
        4 => (node(), from, depth, prop_oneof![0_usize..5, Just(100)])
            .prop_map(|(node, from, depth, room)| Op::List(node, from, depth, room)),
        3 => (node(), 1_u64..4).prop_map(|(node, count)| Op::Forget(node, count)),
        1 => node().prop_map(|node| Op::Forget(node, u64::MAX)),
        2 => node().prop_map(Op::Attr),
        3 => (node(), place, prop_oneof![0_usize..9, Just(4096), Just(usize::MAX)])
            .prop_map(|(node, offset, len)| Op::Read(node, offset, len)),
        1 => node().prop_map(Op::ReadLink),
        1 => Just(Op::ForgetAll),
        1 => any::<u32>().prop_map(Op::Unknown),
        3 => choice().prop_map(Op::Flip),
    ]
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let links = select(vec![Links::All, Links::Inside]);
    (links, [vec(tree(), 3), vec(tree(), 3)], choice(), vec(op(), 1..80))
        .prop_map(|(links, trees, first, ops)| Sequence { links, trees, first, ops })
}

/// A failure becomes a named test, so none is kept in a file.
fn config() -> ProptestConfig {
    let is_long = std::env::var_os("OVERLAYFS_MOUNT_LONG").is_some_and(|value| value == "1");
    let plain = ProptestConfig::default();
    // A sequence is many requests. `PROPTEST_CASES` counts twice as many of other tests.
    let cases = if is_long { 100_000 } else { plain.cases / 2 };
    ProptestConfig { cases, failure_persistence: None, ..plain }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_sequence_of_requests_and_flips_is_answered_as_the_model_says(sequence in sequence()) {
        sequence.run();
    }
}
