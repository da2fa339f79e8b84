//! Holds docs/ARCHITECTURE.md and docs/SEMANTICS.md against the sources, which it reads as text.

#![expect(clippy::panic, reason = "what helps a test may fail it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file before its tests.
const MAX_LINES: usize = 400;

/// The crates that any room but `union` may use: system calls, errors, logging.
const ANYWHERE: &[&str] = &["libc", "nix", "thiserror", "tracing"];

/// A room of `src/`, the rooms it may use, and the crates it may use beyond [`ANYWHERE`].
struct Room {
    name: &'static str,
    rooms: &'static [&'static str],
    crates: &'static [&'static str],
}

/// The plan of the house, bottom up. docs/ARCHITECTURE.md has the same table.
const ROOMS: &[Room] = &[
    Room { name: "union", rooms: &[], crates: &[] },
    Room {
        name: "config",
        rooms: &["union"],
        crates: &["saphyr_parser", "schemars", "serde", "serde_json", "strsim"],
    },
    Room {
        name: "store",
        rooms: &["union"],
        crates: &["arc_swap", "gix", "quick_cache", "sha2", "sirocco", "tempfile"],
    },
    Room {
        name: "snapshot",
        rooms: &["union", "store"],
        crates: &["jiff", "serde", "serde_json", "sha2"],
    },
    Room {
        name: "view",
        rooms: &["union", "config", "store", "snapshot"],
        crates: &["arc_swap", "dashmap", "postcard", "quick_cache", "serde", "sha2", "shuttle"],
    },
    Room { name: "fuse", rooms: &["union", "view"], crates: &["dashmap", "fuser"] },
    Room {
        name: "sync",
        rooms: &["union", "config", "store", "snapshot", "view"],
        crates: &["gix", "jiff", "serde", "serde_json", "sha2", "strsim"],
    },
    Room {
        name: "control",
        rooms: &["union", "snapshot", "view", "sync"],
        crates: &["httparse", "prometheus", "serde", "serde_json"],
    },
    Room { name: "fuzzing", rooms: &["config", "store", "view", "control"], crates: &[] },
    Room {
        name: "lint",
        rooms: &["union", "store", "snapshot"],
        crates: &["saphyr_parser", "toml_edit"],
    },
    Room {
        name: "machine",
        rooms: &[],
        crates: &["caps", "landlock", "rustix", "seccompiler", "serde", "sha2", "signal_hook"],
    },
    Room {
        name: "daemon",
        rooms: &[
            "union", "config", "store", "snapshot", "view", "fuse", "sync", "control", "machine",
        ],
        crates: &[
            "sd_notify",
            "serde_json",
            "signal_hook",
            "tracing_journald",
            "tracing_subscriber",
        ],
    },
    Room {
        name: "commands",
        rooms: &[
            "union", "config", "store", "snapshot", "view", "fuse", "sync", "control", "lint",
            "machine", "daemon",
        ],
        crates: &[
            "anstream",
            "clap",
            "clap_complete",
            "clap_mangen",
            "comfy_table",
            "indicatif",
            "jiff",
            "schemars",
            "serde",
            "serde_json",
            "signal_hook",
            "strsim",
            "tempfile",
            "tracing_subscriber",
        ],
    },
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All `.rs` files below a directory of the project, by their path from its root.
fn rust_files(directory: &str) -> BTreeMap<String, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let mut left = vec![root.join(directory)];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the project") {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let path = path.strip_prefix(&root).expect("below the root").to_string_lossy();
                found.insert(path.clone().into_owned(), read(&path));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// The sources without the files that hold tests only.
fn sources() -> BTreeMap<String, String> {
    let mut files = rust_files("src");
    let is_test = |part: &str| part == "tests" || part.ends_with("_tests");
    files.retain(|path, _| !path.trim_end_matches(".rs").split('/').any(is_test));
    files
}

/// The lines before the file's own module of tests.
fn before_tests(text: &str) -> Vec<&str> {
    let lines: Vec<_> = text.lines().collect();
    let starts_tests = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let end = lines.windows(2).position(starts_tests).unwrap_or(lines.len());
    lines[..end].to_vec()
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let lines = before_tests(text).into_iter().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The room that a file of `src/` belongs to; `None` for `lib.rs` and `main.rs`.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/").expect("a file of src/");
    let room = inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs");
    (room != "lib" && room != "main").then_some(room)
}

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What follows `start` wherever that is the beginning of a path in `text`.
fn follows<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let places = text.match_indices(start).filter(|(at, _)| {
        let before = &text[..*at];
        !before.ends_with(is_word) && !before.ends_with("::")
    });
    places.map(|(at, found)| &text[at + found.len()..]).collect()
}

/// The first names in `a::b` or `{a, b::c, d::{e, f}}`.
fn first_names(text: &str) -> Vec<String> {
    let word =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| is_word(*c)).collect() };
    let Some(group) = text.strip_prefix('{') else { return vec![word(text)] };
    let mut depth = 0_usize;
    let mut names = vec![word(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The crates that Cargo.toml brings, as Rust names them.
fn dependencies() -> Vec<String> {
    let mut is_inside = false;
    let mut found = Vec::new();
    for line in read("Cargo.toml").lines() {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| is_inside) {
            found.push(name.trim().replace('-', "_"));
        }
    }
    assert!(found.contains(&"thiserror".to_owned()), "{found:?}");
    found
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(name) = room_of(&path) else { continue };
        let Some(room) = room(name) else {
            wrong.push(format!("{path}: room `{name}` is not in the table"));
            continue;
        };
        for used in follows(&code(&text), "crate::").into_iter().flat_map(first_names) {
            if used != name && !room.rooms.contains(&used.as_str()) {
                wrong.push(format!("{path}: `{name}` may not use `{used}`"));
            }
        }
    }
    assert_none("imports against the table of docs/ARCHITECTURE.md", &wrong);
}

#[test]
fn what_is_outside_of_a_room_is_named_from_the_crate_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // `src/a.rs` and `src/a/mod.rs` are one level deep, `src/a/b.rs` two.
        let levels = path.trim_end_matches("/mod.rs").split('/').count() - 1;
        if room_of(&path).is_some() && !follows(&code(&text), &"super::".repeat(levels)).is_empty()
        {
            wrong.push(format!("{path}: say `crate::` for what is outside of the room"));
        }
    }
    assert_none("paths that leave their room by `super::`", &wrong);
}

#[test]
fn rooms_use_only_their_crates() {
    let dependencies = dependencies();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(room) = room_of(&path).and_then(room) else { continue };
        let anywhere = if room.name == "union" { &["thiserror"] } else { ANYWHERE };
        let code = code(&text);
        for used in dependencies.iter().map(String::as_str) {
            let is_used = !follows(&code, &format!("{used}::")).is_empty();
            if is_used && !room.crates.contains(&used) && !anywhere.contains(&used) {
                wrong.push(format!("{path}: `{}` may not use the crate `{used}`", room.name));
            }
        }
    }
    assert_none("crates against the table of docs/ARCHITECTURE.md", &wrong);
}

#[test]
fn union_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| room_of(path) == Some("union")) {
        let impure = ["env", "fs", "io", "net", "os", "process", "thread", "time"];
        let code = code(text);
        let used = follows(&code, "std::").into_iter().flat_map(first_names);
        let used: Vec<_> = used.filter(|used| impure.contains(&used.as_str())).collect();
        wrong.extend(used.iter().map(|used| format!("{path}: uses `std::{used}`")));
    }
    assert_none("I/O, clock or environment in `union`", &wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    // Files that are tests from their first line to their last are read as much as others.
    for (path, text) in rust_files("src") {
        let lines = before_tests(&text).len();
        if lines > MAX_LINES {
            wrong.push(format!("{path}: {lines} lines"));
        }
    }
    assert_none("files of more than 400 lines before their tests", &wrong);
}

#[test]
fn the_table_has_no_cycle() {
    for (position, room) in ROOMS.iter().enumerate() {
        for used in room.rooms {
            let is_below = ROOMS[..position].iter().any(|below| below.name == *used);
            assert!(is_below, "`{}` uses `{used}`, which is not below it", room.name);
        }
    }
}

#[test]
fn the_plan_has_every_room_and_the_table_of_this_test() {
    let plan = read("docs/ARCHITECTURE.md");
    let files = sources();
    let in_code = files.keys().filter_map(|path| room_of(path));
    let all: BTreeSet<_> = in_code.chain(ROOMS.iter().map(|room| room.name)).collect();
    let list = |names: &[&str]| match names {
        [] => "-".to_owned(),
        _ => names.join(", "),
    };
    let mut wrong = Vec::new();
    for name in all {
        let start = format!("| `{name}` |");
        let Some(row) = plan.lines().find(|line| line.starts_with(&start)) else {
            wrong.push(format!("no row for `{name}`"));
            continue;
        };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let Some(room) = room(name) else { continue };
        for (cell, expected) in [(2, list(room.rooms)), (3, list(room.crates))] {
            if cells.get(cell) != Some(&expected.as_str()) {
                wrong.push(format!("`{name}` should say: {expected}"));
            }
        }
    }
    assert_none("the table of docs/ARCHITECTURE.md", &wrong);
}

/// The numbered rules of docs/SEMANTICS.md: number, and the tests that each names.
fn numbered_rules() -> Vec<(u32, Vec<String>)> {
    let text = read("docs/SEMANTICS.md");
    let rules = text.split("\n\n").filter_map(|paragraph| {
        let (number, rest) = paragraph.trim().strip_prefix("**S")?.split_once("**")?;
        let number = number.parse().unwrap_or_else(|_| panic!("`S{number}` is no number"));
        let tests = rest.rsplit_once("(test:").map_or("", |(_, tests)| tests);
        Some((number, tests.split('`').skip(1).step_by(2).map(str::to_owned).collect()))
    });
    rules.collect()
}

/// The numbers of the rules.
fn numbers() -> BTreeSet<u32> {
    numbered_rules().into_iter().map(|(number, _)| number).collect()
}

/// The names of all functions in `src/` and `tests/`.
fn functions() -> BTreeSet<String> {
    let files = rust_files("src").into_values().chain(rust_files("tests").into_values());
    let texts: Vec<_> = files.collect();
    texts.iter().flat_map(|text| follows(text, "fn ")).flat_map(first_names).collect()
}

/// The number in a name like `s7_packages`.
fn number_of(test: &str) -> Option<u32> {
    test.strip_prefix('s')?.split_once('_')?.0.parse().ok()
}

#[test]
fn rules_are_numbered_without_gaps_and_name_their_tests() {
    let rules = numbered_rules();
    assert!(!rules.is_empty(), "docs/SEMANTICS.md has no rules");
    let mut wrong = Vec::new();
    for (expected, (number, tests)) in (1..).zip(rules) {
        if number != expected {
            wrong.push(format!("S{number} stands where S{expected} should"));
        }
        if tests.is_empty() {
            wrong.push(format!("S{number} names no test"));
        }
        let strange = tests.iter().filter(|test| number_of(test).is_some_and(|of| of != number));
        wrong.extend(strange.map(|test| format!("S{number} names `{test}`")));
    }
    assert_none("rules of docs/SEMANTICS.md", &wrong);
}

#[test]
fn every_rule_has_its_test() {
    let functions = functions();
    let mut missing = Vec::new();
    for (number, tests) in numbered_rules() {
        let absent = tests.iter().filter(|test| !functions.contains(*test));
        missing.extend(absent.map(|test| format!("S{number}: {test}")));
    }
    assert_none("tests that docs/SEMANTICS.md names and nobody wrote", &missing);
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let functions = functions();
    let text = read("docs/SECURITY.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let mut count = 0;
    let mut wrong = Vec::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        // The first table says who is trusted with what.
        if cells[3] == "test" || !cells[3].starts_with('`') {
            continue;
        }
        for test in cells[3].split('`').skip(1).step_by(2) {
            count += 1;
            if !functions.contains(test) {
                wrong.push(format!("{test}: of {}", cells[1]));
            }
        }
    }
    assert!(count > 0, "docs/SECURITY.md names no tests");
    assert_none("tests that docs/SECURITY.md names and nobody wrote", &wrong);
}

#[test]
fn every_numbered_test_has_its_rule() {
    let numbers = numbers();
    let is_known = |test: &String| number_of(test).is_none_or(|number| numbers.contains(&number));
    let unknown: Vec<_> = functions().into_iter().filter(|test| !is_known(test)).collect();
    assert_none("tests of rules that docs/SEMANTICS.md does not have", &unknown);
}

#[test]
fn rules_that_comments_cite_exist() {
    let numbers = numbers();
    let mut wrong = Vec::new();
    for (path, text) in rust_files("src") {
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        let words = comments.flat_map(|line| line.split(|c| !is_word(c)));
        let cited = words.filter_map(|word| word.strip_prefix('S')?.parse::<u32>().ok());
        let unknown = cited.filter(|number| !numbers.contains(number));
        wrong.extend(unknown.map(|number| format!("{path}: S{number}")));
    }
    assert_none("comments that cite rules which docs/SEMANTICS.md does not have", &wrong);
}

#[test]
fn every_page_and_record_is_linked_and_every_link_leads_somewhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = read("docs/README.md");
    let targets = index.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let targets: BTreeSet<_> = targets.map(str::to_owned).collect();
    let missing = targets.iter().filter(|target| !docs.join(target).exists());
    let mut wrong: Vec<_> = missing.map(|target| format!("`{target}` is not there")).collect();
    for below in ["", "decisions/"] {
        for entry in fs::read_dir(docs.join(below)).expect("a directory of the project") {
            let name = entry.expect("a readable directory").file_name();
            let page = format!("{below}{}", name.to_string_lossy());
            let is_record = page.strip_suffix(".md").is_some_and(|page| page != "README");
            if is_record && !targets.contains(&page) {
                wrong.push(format!("`{page}` is not linked"));
            }
        }
    }
    assert_none("docs/README.md", &wrong);
}

/// Direct dependencies that users run, as Cargo.toml names them, without those of the tests.
fn shipped_dependencies() -> Vec<String> {
    let text = read("Cargo.toml");
    let section = text.split("\n[").find_map(|section| section.strip_prefix("dependencies]\n"));
    let lines = section.expect("a section of dependencies").lines();
    lines.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
}

#[test]
fn every_dependency_has_its_record() {
    let mut records = String::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    for entry in fs::read_dir(directory).expect("a directory of the project") {
        let name = entry.expect("a readable directory").file_name();
        records.push_str(&read(&format!("docs/decisions/{}", name.to_string_lossy())));
    }
    let words: BTreeSet<_> =
        records.split(|c| !is_word(c) && c != '-').map(str::to_owned).collect();
    let missing: Vec<_> =
        shipped_dependencies().into_iter().filter(|name| !words.contains(name)).collect();
    assert_none("dependencies without a record in docs/decisions", &missing);
}

#[test]
fn the_readers_of_this_test_work() {
    assert_eq!(first_names("a::b"), ["a"]);
    assert_eq!(first_names("{a, b::c,\n d::{e, f}, g}; x, y"), ["a", "b", "d", "g"]);
    let text = "use crate::union::x; my_crate::no; self::crate::no";
    assert_eq!(follows(text, "crate::"), ["union::x; my_crate::no; self::crate::no"]);
    let text = "a\n#[cfg(test)]\nmod tests;\nb // c\n// d\n#[cfg(test)]\nmod tests {\n}";
    assert_eq!(code(text), "a\n#[cfg(test)]\nmod tests;\nb");
    let numbers = ["s17_git", "sync_x", "s_1"].map(number_of);
    assert_eq!(numbers, [Some(17), None, None]);
    assert_eq!((room_of("src/lib.rs"), room_of("src/a/b.rs")), (None, Some("a")));
}
