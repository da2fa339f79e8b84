//! The commands against the mount, on random sources: what one of them says of a configuration, all do (S43, S44).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Sandbox, can_mount, is_long};

/// Names that clash often, those that mean something, and those that few programs expect.
const NAMES: [&[u8]; 22] = [
    b"a",
    b"a",
    b"b",
    b"b",
    b"p",
    b"p",
    b"pyproject.toml",
    b"pyproject.toml",
    b"_x",
    b".h",
    b".centaur-tools-source.json",
    b"A",
    b"\xff\xfe",
    "e\u{301}".as_bytes(),
    "\u{e9}".as_bytes(),
    b" a ",
    b"a\nb",
    b"a\\b",
    b"\x9b",
    "\u{9b}".as_bytes(),
    b"00-o__live0.md",
    b"-a",
];
const TARGETS: [&str; 8] =
    ["a", "../a", "../../cards/b", "/etc", "..", "pyproject.toml", "../../../../..", "none"];
const PLACES: [&str; 5] = ["tools", "workflows", ".agents/skills", "prompts", "cards"];

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 40).unwrap() % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Fills a directory. What no commit can hold is in a live one only.
    fn grow(&mut self, directory: &Path, depth: u32, is_live: bool) {
        fs::create_dir_all(directory).unwrap();
        for _ in 0..self.below(6) {
            let path = directory.join(OsStr::from_bytes(self.one_of(&NAMES)));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match self.below(10) {
                0..=4 if depth > 0 && !path.ends_with("pyproject.toml") => {
                    self.grow(&path, depth - 1, is_live);
                }
                5 => symlink(self.one_of(&TARGETS), path).unwrap(),
                // A path that is too long for a socket has none.
                6 if is_live => drop(UnixListener::bind(path)),
                _ => fs::write(path, vec![b'x'; self.below(9)]).unwrap(),
            }
        }
    }

    /// The line of a source in the configuration.
    fn source(&mut self, sandbox: &Sandbox, number: usize) -> String {
        let is_live = self.below(2) == 0;
        let name = format!("{}{number}", if is_live { "live" } else { "git" });
        let repo = (!is_live).then(|| sandbox.repo(&format!("o/{name}")));
        let root = repo.as_ref().map_or_else(|| sandbox.path(&name), |repo| repo.path.clone());
        for place in PLACES {
            self.grow(&root.join(place), 2, is_live);
        }
        fs::write(root.join("P.md"), &name).unwrap();
        repo.map(|repo| repo.commit());
        let origin = if is_live {
            format!("path: {name}, name: o/{name}")
        } else {
            format!("repo: o/{name}")
        };
        let tools = self.one_of(&["", ", toolsSubdir: ''", ", toolsSubdir: cards/."]);
        let personas = self.one_of(&["", ", personasSubdir: tools/a", ", personasSubdir: P.md"]);
        let prompt = self.one_of(&["", ", promptPath: P.md", ", promptPath: prompts"]);
        let visibility = self.one_of(&["", ", visibility: public"]);
        format!("    - {{{origin}{tools}{personas}{prompt}{visibility}}}\n")
    }

    fn configuration(&mut self, sandbox: &Sandbox) {
        let mut sources = String::new();
        for number in 0..4 {
            let source = self.source(sandbox, number);
            sources.push_str(&source);
            if self.below(4) == 0 {
                sources.push_str(&source);
            }
        }
        let links = self.one_of(&["all", "inside"]);
        let whole = self.one_of(&["true", "true", "false"]);
        sandbox.configure(&sources, &format!("links: {links}, sources: {whole}"));
        let entries = self.one_of(&["children", "packages, depth: 3", "prompts"]);
        let surfaces = format!("{{cards: {{at: more/cards, subdir: cards, entries: {entries}}}}}");
        let access = self.one_of(&["all", "all", "public"]);
        sandbox.edit(|text| format!("{text}surfaces: {surfaces}\naccess: {access}\n"));
    }
}

/// Everything below a directory: path, and type, mode and target.
fn tree(sandbox: &Sandbox, directory: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let script = r"find $0 -mindepth 1 -printf '%P\0%y %m %l\0'";
    let output = sandbox.command("sh").args(["-euc", script, directory]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut fields = output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let mut found = BTreeMap::new();
    while let (Some(path), Some(what)) = (fields.next(), fields.next()) {
        found.insert(path, what);
    }
    found
}

/// What `explain` says of a path: of the configuration, or of the mount, with or without its daemon.
fn explain(sandbox: &Sandbox, before: &[&str], run_dir: &str, path: &[u8]) -> Value {
    let mut command = sandbox.overlay(&["explain", "--json"]);
    command.args(before).arg("--").env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path(run_dir));
    let output = command.arg(OsStr::from_bytes(path)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", path.escape_ascii());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn agree(seed: u64) {
    let sandbox = Sandbox::new();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    dice.configuration(&sandbox);
    let mount = sandbox.mount();
    sandbox.succeed(&["export", "out"]);
    let shown = tree(&sandbox, "view");
    assert_eq!(shown, tree(&sandbox, "out"), "seed {seed}");
    sandbox.shell("diff -r --no-dereference out view");
    let document = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let listed = document(sandbox.succeed(&["ls", "--json"]));
    assert_eq!(listed, document(sandbox.shell("cat view/.overlay/entries.json")), "seed {seed}");
    let checked = document(sandbox.succeed(&["check", "--json"]));
    for surface in checked["surfaces"].as_array().unwrap() {
        let entries = listed["entries"].as_array().unwrap().iter();
        let count = entries.filter(|entry| entry["surface"] == surface["name"]).count();
        assert_eq!(surface["entries"], count, "seed {seed}: {surface}");
    }
    let known: Vec<_> = shown.keys().cloned().collect();
    for number in 0..12 {
        // What is there, what is near it, and what may be hidden.
        let path = match number % 3 {
            0 if !known.is_empty() => known[dice.below(known.len())].clone(),
            1 if !known.is_empty() => {
                [known[dice.below(known.len())].as_slice(), dice.one_of(&NAMES)].join(&b'/')
            }
            _ => [dice.one_of(&PLACES).as_bytes(), dice.one_of(&NAMES)].join(&b'/'),
        };
        let said = explain(&sandbox, &["-c", "overlays.yaml"], "run/ours", &path);
        let is_shown = shown.contains_key(&path);
        assert_eq!(said["shows"] != "nothing", is_shown, "seed {seed}: {said}");
        let is_link = |end| shown.get(&path[..end]).is_some_and(|what| what.starts_with(b"l"));
        if (0..=path.len()).any(is_link) {
            // Below the mount point the path that it leads to is explained.
            continue;
        }
        let below = [b"view/", path.as_slice()].concat();
        assert_eq!(explain(&sandbox, &[], "run/ours", &below), said, "seed {seed}");
        let seen = explain(&sandbox, &[], "none", &below);
        assert_eq!(seen["shows"], said["shows"], "seed {seed}: {seen} {said}");
        if is_shown {
            for key in ["source", "revision", "entry", "source_path"] {
                assert_eq!(seen["winner"][key], said["winner"][key], "seed {seed}: {said}");
            }
        }
    }
    mount.unmount();
}

#[test]
fn s43_commands_and_mounts_say_the_same_of_random_sources() {
    if !can_mount() {
        return;
    }
    let seeds = if is_long() { 200 } else { 3 };
    (1..=seeds).for_each(agree);
}
