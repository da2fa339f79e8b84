//! Random sequences of requests, flips and changes on disk against a model that says what must come as plainly as possible.

mod disk;
mod driver;
mod flips;
mod listing;
mod reading;
mod sets;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{RngSeed, TestRunner};

use super::Depth;
use crate::config::resolved::Links;
use disk::{Change, Gits, PATHS};
use driver::{Driver, From, Op, WAYS};
use world::{Choice, Tree, World};

/// A sequence of requests, flips and changes, on these revisions of two sources and a live one.
#[derive(Debug, Clone)]
struct Sequence {
    links: Links,
    trees: [Vec<Tree>; 2],
    live: Tree,
    first: Choice,
    ops: Vec<Op>,
}

impl Sequence {
    fn run(self, gits: &Arc<Gits>) {
        let world = World::new(self.links, self.trees, &self.live, gits.clone(), self.first);
        let mut driver = Driver::new(self.links, world);
        for op in &self.ops {
            driver.run(op);
        }
        driver.end();
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "x"];

const TARGETS: [&str; 6] = ["a", "../x", "../../x/b", "../../..", "x/../../p", "/a"];

fn leaf() -> impl Strategy<Value = Tree> {
    prop_oneof![
        4 => (0_u8..5, any::<bool>()).prop_map(|(content, is_executable)| Tree::File(content, is_executable)),
        2 => select(TARGETS.to_vec()).prop_map(Tree::Link),
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
    let gits = [0..=disk::GITS, 0..=disk::GITS];
    (revisions, gits, 0_usize..3, prop::bool::weighted(0.7)).prop_map(
        |(revisions, gits, on_surface, is_whole)| Choice { revisions, gits, on_surface, is_whole },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0..PATHS.len() * 2;
    prop_oneof![
        2 => (at(), 0_u8..5).prop_map(|(at, content)| Change::Write(at, content)),
        2 => (at(), 0_u8..5).prop_map(|(at, content)| Change::Replace(at, content)),
        2 => at().prop_map(Change::Remove),
        2 => at().prop_map(Change::Directory),
        1 => (at(), select(TARGETS.to_vec())).prop_map(|(at, target)| Change::Link(at, target)),
        1 => at().prop_map(Change::Fifo),
        1 => (at(), any::<bool>()).prop_map(|(at, is_executable)| Change::Mode(at, is_executable)),
        1 => (at(), at()).prop_map(|(at, to)| Change::Rename(at, to)),
        1 => (at(), at()).prop_map(|(at, to)| Change::Exchange(at, to)),
    ]
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
        4 => (0..WAYS.len(), 0_usize..4).prop_map(|(way, pick)| Op::Walk(way, pick)),
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
        4 => change().prop_map(Op::Disk),
    ]
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let links = select(vec![Links::All, Links::Inside]);
    (links, [vec(tree(), 3), vec(tree(), 3)], tree(), choice(), vec(op(), 1..80))
        .prop_map(|(links, trees, live, first, ops)| Sequence { links, trees, live, first, ops })
}

/// A failure becomes a named test, so none is kept in a file.
fn config() -> ProptestConfig {
    let is_long = std::env::var_os("OVERLAYFS_MOUNT_LONG").is_some_and(|value| value == "1");
    let plain = ProptestConfig::default();
    // A sequence is many requests. `PROPTEST_CASES` counts twice as many of other tests.
    let cases = if is_long { 100_000 } else { plain.cases / 2 };
    let seed = match plain.rng_seed {
        RngSeed::Random => RngSeed::Fixed(rand_seed()),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { cases, failure_persistence: None, rng_seed: seed, ..plain }
}

/// Another one each time: it is printed.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[test]
fn any_sequence_of_requests_and_flips_is_answered_as_the_model_says() {
    let (config, started, gits) = (config(), Instant::now(), Arc::new(Gits::new()));
    let what = format!("{} sequences of seed {:?}", config.cases, config.rng_seed);
    let run = |sequence: Sequence| {
        sequence.run(&gits);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&sequence(), run) {
        panic!("{what}: {error}");
    }
    eprintln!("{what}: {:?}", started.elapsed());
}

#[test]
fn a_text_that_nobody_reads_may_have_another_number_after_a_flip() {
    let empty = || Tree::Directory(BTreeMap::new());
    let choice = || Choice { revisions: [0, 0], gits: [0, 0], on_surface: 2, is_whole: true };
    let (first, flip) = (choice(), Op::Flip(choice()));
    // `.overlay`, `entries.json` in it, and both once more.
    let ops = vec![
        Op::Child(0, 3),
        Op::Child(7, 41),
        Op::ForgetAll,
        flip,
        Op::Child(0, 27),
        Op::List(13, From::Start, Depth::Names, 100),
    ];
    let live = Tree::Directory(BTreeMap::from([("p", Tree::File(0, false))]));
    let trees = [vec![empty()], vec![empty()]];
    Sequence { links: Links::All, trees, live, first, ops }.run(&Arc::new(Gits::new()));
}
