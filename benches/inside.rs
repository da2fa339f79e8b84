//! What the parts cost without a kernel in between: merging, looking up, listing, building, flipping, by the number of entries.
//!
//! `cargo bench --bench inside`; with `-- --quick` a tenth of a second for each, with `-- NAME` only those. Everything but `merge` is measured on a
//! view of a real repository with that many skills of one file each.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, Divan};
use overlayfs_mount::config::resolved::Config;
use overlayfs_mount::config::{Environment, load_file};
use overlayfs_mount::sync::build::{build, rebuild};
use overlayfs_mount::sync::{Shared, follow};
use overlayfs_mount::union::entries::{Entry, EntryKey};
use overlayfs_mount::union::name::RelPath;
use overlayfs_mount::union::namespace::{Layer, Stack};
use overlayfs_mount::union::object::{Kind, Object, Oid};
use overlayfs_mount::union::source::SourceId;
use overlayfs_mount::union::succession::Remembered;
use overlayfs_mount::view::{Depth, Found, Keeping, Kernel, Number, Offered, Settings, Sink, View};
use tempfile::TempDir;

/// How many entries there are.
const ENTRIES: [usize; 4] = [100, 1_000, 10_000, 100_000];

/// Layers that are merged.
const LAYERS: usize = 10;

fn main() {
    if std::env::args().any(|argument| argument == "--quick") {
        let quick = Divan::default().max_time(Duration::from_millis(100));
        quick.run_benches();
    } else {
        divan::main();
    }
}

/// Layers of `count` entries in all; each hides half of the layer below it.
fn layers(count: usize) -> Vec<Layer> {
    let each = count / LAYERS;
    let oid = Oid::from_bytes(&[7; 20]).expect("an id of 20 bytes");
    let entry = |number: usize| {
        let path = RelPath::parse(format!("entry-{number:06}")).expect("a plain name");
        Entry {
            path: path.clone(),
            key: EntryKey::Path,
            source_path: path,
            object: Object::Frozen { kind: Kind::Directory, oid },
        }
    };
    let layer = |position: usize| Layer {
        source: SourceId(u32::try_from(position).expect("a few layers")),
        entries: (0..each).map(|number| entry(position * each / 2 + number)).collect(),
    };
    (0..LAYERS).map(layer).collect()
}

#[divan::bench(args = ENTRIES)]
fn merge(bencher: Bencher<'_, '_>, count: usize) {
    let layers = layers(count);
    bencher.with_inputs(|| layers.clone()).bench_values(Stack::merge);
}

/// A repository of `count` skills, its configuration, and what is shared by its snapshots.
struct World {
    directory: TempDir,
    count: usize,
    config: Config,
    shared: Shared,
    turn: usize,
}

impl World {
    fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let file = directory.path().join("overlays.yaml");
        let text = "overlays: {sources: [{repo: bench/one, ref: main}]}\n\
                    repoCache: {path: repos}\nstate: {dir: state}\nmount: {at: view}\n";
        fs::write(&file, text).expect("a file of ours");
        let config = load_file(&file, &Environment::of_process()).expect("it is right").config;
        let shared = Shared::new(&config);
        let mut world = Self { directory, count, config, shared, turn: 0 };
        let repository = world.repository();
        fs::create_dir_all(&repository).expect("a directory of ours");
        git(&repository, &["init", "--quiet", "--bare"], "");
        world.commit();
        world
    }

    fn repository(&self) -> PathBuf {
        self.directory.path().join("repos/bench/one")
    }

    /// Commits the skills, of which the first is different each time. All others are one tree: what is in it makes no difference.
    fn commit(&mut self) {
        self.turn += 1;
        let repository = self.repository();
        let tree = |lines: &str| git(&repository, &["mktree"], lines);
        let skill = |text: &str| {
            let blob = git(&repository, &["hash-object", "-w", "--stdin"], text);
            tree(&format!("100644 blob {blob}\tSKILL.md\n"))
        };
        let (first, other) = (skill(&format!("turn {}\n", self.turn)), skill("another\n"));
        let line = |number: usize| {
            let id = if number == 0 { &first } else { &other };
            format!("040000 tree {id}\t{}\n", skill_name(number))
        };
        let skills = tree(&(0..self.count).map(line).collect::<String>());
        let agents = tree(&format!("040000 tree {skills}\tskills\n"));
        let root = tree(&format!("040000 tree {agents}\t.agents\n"));
        let commit = git(&repository, &["commit-tree", "-m", "x", &root], "");
        git(&repository, &["update-ref", "refs/heads/main", &commit], "");
    }

    fn view(&self) -> View {
        let snapshot = build(&self.config, &self.shared).expect("the repository can be read");
        let links = self.config.mount.links;
        View::new(Arc::new(snapshot), Settings { links, has_xattrs: false })
    }
}

fn skill_name(number: usize) -> String {
    format!("skill-{number:06}")
}

/// Runs git, and gives what it says without the last newline.
fn git(directory: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "b").env(format!("GIT_{who}_EMAIL"), "b@localhost");
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let mut child = command.spawn().expect("git is installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("git reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it is a child");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).expect("ids are text").trim_end().to_owned()
}

fn find(view: &View, parent: Number, name: &str) -> Option<Number> {
    match view.lookup(parent, name.as_bytes()).expect("the directory can be read") {
        Found::Present { attr, .. } => Some(attr.number),
        Found::Absent(_) => None,
    }
}

/// The directory of the skills.
fn skills(view: &View) -> Number {
    let agents = find(view, Number::ROOT, ".agents").expect("it is always there");
    find(view, agents, "skills").expect("it is always there")
}

/// Looks one name up, and takes the look-up back as the kernel would.
#[divan::bench(args = ENTRIES)]
fn lookup(bencher: Bencher<'_, '_>, count: usize) {
    let view = World::new(count).view();
    let skills = skills(&view);
    let names: Vec<String> = (0..count).map(skill_name).collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 7919) % count;
        let number = find(&view, skills, &names[turn]).expect("it was committed");
        view.forget(number, 1);
    });
}

#[divan::bench(args = ENTRIES)]
fn lookup_absent(bencher: Bencher<'_, '_>, count: usize) {
    let view = World::new(count).view();
    let skills = skills(&view);
    bencher.bench_local(|| find(&view, skills, "skill-none"));
}

/// Counts names, and remembers the nodes that a listing has counted.
#[derive(Default)]
struct Seen(Vec<Number>);

impl Sink for Seen {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        if !matches!(offered.name, b"." | b"..") {
            self.0.push(offered.attr.number);
        }
        true
    }
}

fn list_all(bencher: Bencher<'_, '_>, count: usize, depth: Depth) {
    let view = World::new(count).view();
    let skills = skills(&view);
    bencher.bench_local(|| {
        let mut seen = Seen::default();
        view.list(skills, 0, depth, &mut seen).expect("it can be read");
        assert_eq!(seen.0.len(), count);
        if depth == Depth::Attributes {
            seen.0.iter().for_each(|number| view.forget(*number, 1));
        }
    });
}

#[divan::bench(args = ENTRIES)]
fn list_names(bencher: Bencher<'_, '_>, count: usize) {
    list_all(bencher, count, Depth::Names);
}

#[divan::bench(args = ENTRIES)]
fn list_with_attributes(bencher: Bencher<'_, '_>, count: usize) {
    list_all(bencher, count, Depth::Attributes);
}

/// From a configuration to a snapshot, with nothing open yet.
#[divan::bench(args = ENTRIES)]
fn build_first(bencher: Bencher<'_, '_>, count: usize) {
    let world = World::new(count);
    bencher.bench_local(|| build(&world.config, &Shared::new(&world.config)));
}

/// Nobody listens: what is told to a kernel costs what a call costs.
struct NoKernel;

impl Kernel for NoKernel {
    fn forget_name(&self, _directory: Number, _name: &[u8]) {}
    fn forget_listing(&self, _directory: Number) {}
}

/// Building the next snapshot after one skill of many has changed, and letting it follow.
#[divan::bench(args = ENTRIES, sample_count = 20, sample_size = 1)]
fn rebuild_one_changed(bencher: Bencher<'_, '_>, count: usize) {
    let mut world = World::new(count);
    let view = world.view();
    let snapshot = view.snapshot();
    world.commit();
    bencher.bench_local(|| {
        let next = rebuild(&world.config, &world.shared, None, Some(&snapshot));
        follow(&snapshot, next.expect("it can be read").snapshot, &mut Remembered::default())
    });
}

/// Putting the next snapshot in place, one skill of many being another.
#[divan::bench(args = ENTRIES, sample_count = 20, sample_size = 1)]
fn flip_one_changed(bencher: Bencher<'_, '_>, count: usize) {
    let mut world = World::new(count);
    let view = world.view();
    let keeping = Keeping { sets: 1, time: Duration::ZERO };
    let mut remembered = Remembered::default();
    let next = || {
        world.commit();
        let before = view.snapshot();
        let next = rebuild(&world.config, &world.shared, None, Some(&before));
        Arc::new(follow(&before, next.expect("it can be read").snapshot, &mut remembered))
    };
    bencher.with_inputs(next).bench_local_values(|next| {
        let changes = view.flip(next, keeping, &NoKernel);
        assert!(!changes.is_empty());
    });
}
