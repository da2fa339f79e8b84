//! Holds the pages of docs/ against the program and against each other: links, commands, variables, configurations.
//!
//! `OVERLAYFS_MOUNT_UPDATE_DOCS=1 cargo test --test docs` writes what is generated anew.

#![expect(clippy::panic, reason = "what helps a test may fail it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::{Arg, Command, CommandFactory, Parser};
use overlayfs_mount::commands::cli::Cli;
use overlayfs_mount::config;

/// Writes generated parts in place of comparing them.
const UPDATE: &str = "OVERLAYFS_MOUNT_UPDATE_DOCS";

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files of the project by their path, without what is built.
fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(below)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let skipped = ["target", ".git", "charts", "__pycache__"];
            if path != root() && skipped.iter().any(|name| path.ends_with(name)) {
                continue;
            }
            for entry in fs::read_dir(&path).expect("a directory of the project") {
                left.push(entry.expect("a readable directory").path());
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All pages, by their path.
fn pages() -> BTreeMap<PathBuf, String> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let found: BTreeMap<_, _> =
        files("").into_iter().filter(is_page).map(|path| (path.clone(), read(&path))).collect();
    assert!(found.len() > 10, "{found:?}");
    found
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

/// A fenced block: the word after the fence, and its lines without the indentation of the fence.
struct Block {
    kind: String,
    text: String,
}

/// The text without fenced blocks, line by line, and the blocks.
fn split_blocks(page: &str) -> (String, Vec<Block>) {
    let mut prose = String::new();
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for line in page.lines() {
        let indentation = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some((indentation, Block { kind: kind.to_owned(), text: String::new() }));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (None, Some((outer, block))) => {
                block.text.push_str(line.get(*outer..).unwrap_or(line.trim_start()));
                block.text.push('\n');
            }
            (None, None) => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block without end");
    (prose, blocks)
}

/// The text with what stands between backticks made unreadable, one character for each.
fn without_code(text: &str) -> String {
    let mut is_code = false;
    let blank = |c: char| {
        let is_tick = c == '`';
        is_code ^= is_tick;
        if is_tick || is_code { 'x' } else { c }
    };
    text.chars().map(blank).collect()
}

/// Where links of a page lead, relative to it.
fn links(page: &str) -> Vec<String> {
    let (prose, _) = split_blocks(page);
    let mut found = Vec::new();
    for text in prose.split("\n\n").map(without_code) {
        let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        found.extend(targets.map(|target| target.trim().to_owned()));
    }
    found
}

/// The anchor that a heading gets where pages are shown: letters, digits, `-` and `_`; blanks become `-`.
fn anchor(heading: &str) -> String {
    let text = heading.trim().to_lowercase().replace('`', "");
    let text: String = match text.split_once("](") {
        // A heading that is a link has the anchor of its text.
        Some((label, _)) => label.trim_start_matches('[').to_owned(),
        None => text,
    };
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    let (prose, _) = split_blocks(page);
    for line in prose.lines().filter(|line| line.starts_with('#')) {
        let anchor = anchor(line.trim_start_matches('#'));
        let count = seen.entry(anchor.clone()).or_default();
        found.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    found
}

/// `a/b/../c` as `a/c`, without asking the file system, as a browser does.
fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// What is wrong with a link of a page, or nothing.
fn fault(from: &Path, target: &str, pages: &BTreeMap<PathBuf, String>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() {
        from.to_owned()
    } else {
        normalized(&from.parent().unwrap_or(from).join(path))
    };
    if !to.starts_with(root()) {
        return Some("leads out of the project".to_owned());
    }
    if !to.exists() {
        return Some("is not there".to_owned());
    }
    let page = pages.get(&to)?;
    let is_lacking = !fragment.is_empty() && !anchors(page).contains(fragment);
    is_lacking.then(|| format!("has no heading `#{fragment}`"))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, page) in &pages {
        for target in links(page) {
            count += 1;
            if let Some(fault) = fault(path, &target, &pages) {
                wrong.push(format!("{}: `{target}` {fault}", short(path)));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert_none("links", &wrong);
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let contents = root().join("docs/README.md");
    let targets = links(&read(&contents));
    let mut wrong = Vec::new();
    for path in pages().into_keys().filter(|path| path.starts_with(root().join("docs"))) {
        let name = short(&path).trim_start_matches("docs/").to_owned();
        let count = targets.iter().filter(|target| **target == name).count();
        if name != "README.md" && count != 1 {
            wrong.push(format!("{name}: {count} times"));
        }
    }
    assert_none("docs/README.md", &wrong);
}

/// All subcommands with the words that call them, depth first.
fn subcommands(command: &Command, words: &str) -> Vec<(String, Command)> {
    let mut found = Vec::new();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let words = format!("{words}{}", below.get_name());
        found.push((words.clone(), below.clone()));
        found.extend(subcommands(below, &format!("{words} ")));
    }
    found
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// An argument as it is typed.
fn typed(argument: &Arg) -> String {
    let value = argument.get_num_args().is_some_and(|range| range.takes_values());
    let names = argument.get_value_names().unwrap_or_default();
    let value = if value { names.join(" ") } else { String::new() };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = [short, long].into_iter().flatten().collect();
    match (flags.is_empty(), value.is_empty()) {
        (true, _) => format!("`{value}`"),
        (false, true) => format!("`{}`", flags.join("`, `")),
        (false, false) => format!("`{} {value}`", flags.join("`, `")),
    }
}

/// What an argument means, with its values and its default.
fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty()
        && !argument.is_hide_possible_values_set()
        && argument.get_num_args().is_some_and(|range| range.takes_values())
    {
        let _ = write!(text, ": {}", values.join(", "));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_num_args().is_some_and(|range| range.takes_values()) {
        let _ = write!(text, " (default: `{}`)", defaults.join(" "));
    }
    cell(&text)
}

/// The reference of all commands.
fn reference() -> String {
    let mut program = Cli::command().disable_help_flag(true).disable_version_flag(true);
    program.build();
    let mut page = String::new();
    for (words, mut command) in subcommands(&program, "") {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, "\n## {words}\n\n{about}.\n\n```\n{usage}\n```\n");
        let arguments: Vec<_> = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
            .collect();
        if !arguments.is_empty() {
            page.push_str("\n| argument | meaning |\n|---|---|\n");
        }
        for argument in arguments {
            let _ = writeln!(page, "| {} | {} |", typed(argument), meaning(argument));
        }
        if let Some(help) = command.get_after_help() {
            let _ = write!(page, "\n{help}\n");
        }
    }
    page.push('\n');
    page
}

#[test]
fn the_page_of_the_command_line_is_what_the_program_takes() {
    let path = root().join("docs/COMMAND-LINE.md");
    let page = read(&path);
    let (head, rest) = page.split_once(BEGIN).expect("a generated part begins");
    let (generated, tail) = rest.split_once(END).expect("a generated part ends");
    let wanted = reference();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, format!("{head}{BEGIN}{wanted}{END}{tail}"))
            .expect("a page that can be written");
    } else {
        assert!(
            generated == wanted,
            "docs/COMMAND-LINE.md is not what the program says\n  cure: {UPDATE}=1 cargo test --test docs"
        );
    }
    // Where a command is explained is said by hand.
    let mut program = Cli::command();
    program.build();
    let lacking: Vec<_> = subcommands(&program, "")
        .into_iter()
        .map(|(words, _)| format!("| [`{words}`](#{}) |", anchor(&words)))
        .filter(|row| !head.contains(row.as_str()))
        .collect();
    assert_none("rows that the table of docs/COMMAND-LINE.md lacks", &lacking);
}

/// Names of variables of ours in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| {
        word.strip_prefix("OVERLAYFS_MOUNT_")
            .is_some_and(|rest| !rest.is_empty() && !rest.ends_with('_'))
    });
    // Tests start themselves again with these, and nobody else sets them.
    ours.filter(|word| !word.starts_with("OVERLAYFS_MOUNT_TEST_")).map(str::to_owned).collect()
}

#[test]
fn every_variable_is_on_its_page() {
    let page = read(&root().join("docs/ENVIRONMENT.md"));
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let on_page = variables(&rows.join("\n"));
    let mut in_code = BTreeSet::new();
    for below in ["src", "tests", "packaging", ".ci", "benches"] {
        for path in files(below) {
            if path.extension().is_none_or(|extension| extension != "md") {
                in_code
                    .extend(variables(&String::from_utf8_lossy(&fs::read(&path).expect("a file"))));
            }
        }
    }
    let lacking: Vec<_> = in_code.difference(&on_page).cloned().collect();
    assert_none("variables that docs/ENVIRONMENT.md lacks", &lacking);
    let strange: Vec<_> = on_page.difference(&in_code).cloned().collect();
    assert_none("variables of docs/ENVIRONMENT.md that nothing reads", &strange);
}

#[test]
fn every_variable_that_git_sees_is_on_the_page_of_variables() {
    let page = read(&root().join("docs/ENVIRONMENT.md"));
    let code = read(&root().join("src/sync/fetch/git.rs"));
    let (_, list) = code.split_once("const KEPT: [&str; ").expect("the list of what git sees");
    let (list, _) = list.split_once("];").expect("the end of the list");
    let names: Vec<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(names.contains(&"GIT_SSH_COMMAND".to_owned()), "{names:?}");
    let lacking: Vec<_> =
        names.into_iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert_none("variables that docs/ENVIRONMENT.md lacks", &lacking);
}

/// True for a block that is a whole configuration of ours, or the beginning of one.
fn is_configuration(block: &Block) -> bool {
    let keys =
        ["overlays:", "toolServer:", "surfaces:", "access:", "repoCache:", "state:", "mount:"];
    let first = block.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
    block.kind == "yaml" && first.is_some_and(|line| keys.iter().any(|key| line.starts_with(key)))
}

#[test]
fn configurations_in_pages_are_sound() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let env = config::Environment::of_process();
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        for block in split_blocks(&page).1.into_iter().filter(is_configuration) {
            count += 1;
            let file = directory.path().join("overlays.yaml");
            fs::write(&file, &block.text).expect("a file that can be written");
            if let Err(error) = config::load_file(&file, &env) {
                wrong.push(format!("{}: {error}\n{}", short(&path), block.text));
            }
        }
    }
    assert!(count > 3, "only {count} configurations were found");
    assert_none("configurations", &wrong);
}

/// The words of a simple command: up to a comment, a pipe or whatever else only a shell understands.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            ('#', None) if words.last().is_some_and(String::is_empty) => break,
            ('|' | '>' | '<' | ';' | '&', None) => break,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().expect("never empty").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The calls of the program in a block of a shell.
fn calls(block: &Block) -> Vec<Vec<String>> {
    if !["console", "sh"].contains(&block.kind.as_str()) {
        return Vec::new();
    }
    let text = block.text.replace("\\\n", " ");
    let lines = text.lines().map(|line| line.trim_start_matches(['$', '#', '>', ' ']));
    let calls = lines.map(words).map(|words| {
        let is_setting =
            |word: &&String| word.contains('=') && word.starts_with(char::is_uppercase);
        let before = ["sudo", "env", "eval"];
        let is_before = |word: &&String| is_setting(word) || before.contains(&word.as_str());
        words.iter().skip_while(is_before).cloned().collect::<Vec<_>>()
    });
    calls.filter(|words| words.first().is_some_and(|word| word == "overlayfs-mount")).collect()
}

#[test]
fn commands_in_pages_are_taken() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for (path, page) in pages() {
        for call in split_blocks(&page).1.iter().flat_map(calls) {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&call)
                && error.use_stderr()
            {
                wrong.push(format!("{}: {}: {error}", short(&path), call.join(" ")));
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");
    assert_none("commands", &wrong);
}

#[test]
fn the_readers_of_this_test_work() {
    let page = "# A `b`: c\n[x](y.md#z) `[no](no.md)` [`w`](#w)\n```sh\n# [no](no.md)\n$ overlayfs-mount ls --json  # x\n```\n# A b c\n";
    assert_eq!(links(page), ["y.md#z", "#w"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["a-b-c", "a-b-c-1"]);
    let (_, blocks) = split_blocks(page);
    assert_eq!(calls(&blocks[0]), [["overlayfs-mount", "ls", "--json"]]);
    assert_eq!(words("a 'b c' | d"), ["a", "b c"]);
    assert_eq!(without_code("a `b` c"), "a xxx c");
    assert_eq!(
        variables("OVERLAYFS_MOUNT_LOG=1 OVERLAYFS_MOUNT_"),
        ["OVERLAYFS_MOUNT_LOG".to_owned()].into()
    );
    let pages = pages();
    let from = root().join("docs/README.md");
    for (target, is_wrong) in [
        ("CONFIG.md", false),
        ("../README.md", false),
        ("CONFIG.md#no", true),
        ("NO.md", true),
        ("../../x", true),
    ] {
        assert_eq!(fault(&from, target, &pages).is_some(), is_wrong, "{target}");
    }
}
