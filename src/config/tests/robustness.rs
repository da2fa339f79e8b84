//! No bytes make this room panic, hang or grow.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::config::fixture::{environment, refusal};
use crate::config::resolved::Origin;
use crate::config::{fuzzing, load_text, schema};

const EXAMPLE: &str = include_str!("../../../packaging/examples/overlays.yaml");

/// Reads the bytes both ways.
fn read(bytes: &[u8]) {
    fuzzing::configuration(bytes);
    fuzzing::values(bytes);
}

#[test]
fn a_file_cut_anywhere_is_read_or_refused() {
    for end in 0..EXAMPLE.len() {
        read(&EXAMPLE.as_bytes()[..end]);
    }
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        text = format!("{text}a{i}: &a{i} [{list}]\n");
    }
    let said = refusal(&text);
    assert!(said.contains("stands for more than 50000 values"), "{said}");
    assert!(said.ends_with("cure: use fewer aliases"), "{said}");
}

#[test]
fn of_too_many_values_without_aliases_no_alias_is_blamed() {
    let said = refusal("- x\n".repeat(60_000));
    assert!(said.contains("overlays.yaml:50000: stands for more than 50000 values"), "{said}");
    assert!(said.ends_with("cure: keep in this file only what the configuration needs"), "{said}");
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

/// Each of these once took as many steps as there are pairs of rows, or as much text.
#[test]
fn thousands_of_rows_that_clash_are_reported_once_each() {
    let rows = lines(2_000, |row| format!("  s{row}: {{at: same}}\n"));
    let said = refusal(format!("surfaces:\n{rows}"));
    assert_eq!(said.matches("is also the place of surface `s0`").count(), 1_999);
    assert_eq!(said.matches("error: ").count(), 1_999);
}

#[test]
fn thousands_of_unknown_names_of_surfaces_cost_a_line_each() {
    let rows = lines(1_000, |row| format!("  s{row}: {{at: d{row}}}\n"));
    let names = lines(1_000, |name| format!("        s{name}x: x\n"));
    let said = refusal(format!(
        "overlays:\n  sources:\n    - path: x\n      subdirs:\n{names}surfaces:\n{rows}"
    ));
    assert_eq!(said.matches("unknown surface").count(), 1_000);
    assert!(said.contains("did you mean `s0`? known surfaces: `tools`,"), "{said}");
    assert!(said.contains("and 985 more; a new one is a row of `surfaces`"), "{said}");
    assert!(said.len() < 1_000_000, "{}", said.len());
}

#[test]
fn a_place_that_is_too_deep_is_refused() {
    let said = refusal(format!("surfaces: {{deep: {{at: {}x}}}}", "a/".repeat(100_000)));
    assert!(said.contains("`surfaces.deep.at`: lies more than 64 directories deep"), "{said}");
}

#[test]
fn copies_of_long_texts_cannot_blow_up() {
    let long = "x".repeat(1 << 20);
    let aliases = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 100].join(", "));
    // Each anchor keeps a copy of all that is in it.
    let anchors = format!("a: {}{long}{}\n", "&a [".repeat(60), "]".repeat(60));
    for text in [aliases, anchors] {
        let said = refusal(&text);
        assert!(said.contains("anchors and aliases make more than 32 MiB of it"), "{said}");
    }
}

#[test]
fn nesting_cannot_exhaust_the_stack() {
    for open in ["[", "{a: ", "- ", "? "] {
        let said = refusal(open.repeat(100_000));
        assert!(said.starts_with("error: overlays.yaml:1: "), "{said}");
    }
}

/// Words that mean something at some key, and such as nobody should write there.
const WORDS: [&str; 28] = [
    "public",
    "main",
    "tools",
    "",
    "30s",
    "0",
    "2GiB",
    "99999999999999999999",
    "a/b",
    "tools/x",
    "local/x",
    ".",
    "..",
    "x/../y",
    "/x",
    "x//y",
    ".git",
    ".overlay/x",
    "~/x",
    "ä\u{301}",
    "1.10",
    "-x",
    "https://u:p@h/x",
    "ext::sh",
    "\\0",
    "\\e[31m",
    "pyproject.toml",
    "x/y/z",
];

/// Texts that are right at a key.
fn sound(key: &str) -> &'static [&'static str] {
    match key {
        "repo" | "name" => &["a/b", "c/d", "a/b"],
        "path" | "dir" | "tokenFile" => &["x", "../y", "/srv/z"],
        "url" => &["https://git.example/a/b.git", "git@git.example:a/b"],
        "interval" | "keep" | "stopTimeout" => &["30s", "1h30m", "7d"],
        "cacheBytes" | "objectBytes" => &["2GiB", "1048576"],
        "at" => &["more/x", "y", "z/./w/"],
        _ => &["main", "cards", "m"],
    }
}

/// What a configuration says, as numbers decide it.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % end
    }

    fn one_of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }

    /// A value of a key that its schema takes, most of the time.
    fn value(&mut self, key: &str, schema: &Value, root: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            let target = root.pointer(name.trim_start_matches('#'));
            return self.value(key, target.expect("a schema of ours"), root);
        }
        if self.below(64) == 63 {
            return self.one_of(&["null", "~", "[]", "{}", "-1", "1e3", "yes", "[[x]]"]).to_owned();
        }
        if let Some(word) = schema["const"].as_str() {
            return word.to_owned();
        }
        for choice in ["enum", "anyOf", "oneOf", "type"] {
            let Some(all) = schema[choice].as_array() else { continue };
            let one = &all[self.below(all.len())];
            return match choice {
                "enum" => one.to_string(),
                "type" => {
                    let mut schema = schema.clone();
                    schema["type"] = one.clone();
                    self.value(key, &schema, root)
                }
                _ => self.value(key, one, root),
            };
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, root),
            Some("array") => {
                let items = (0..self.below(4)).map(|_| self.value(key, &schema["items"], root));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            Some("boolean") => self.one_of(&["true", "false"]).to_owned(),
            Some("integer" | "number") => {
                self.one_of(&["0", "1", "2", "9", "4294967296"]).to_owned()
            }
            Some("null") => "null".to_owned(),
            _ if self.below(32) == 31 => format!("\"{}\"", self.one_of(&WORDS)),
            _ => format!("\"{}\"", self.one_of(sound(key))),
        }
    }

    fn object(&mut self, schema: &Value, root: &Value) -> String {
        let mut entries = Vec::new();
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            if self.below(3) == 0 {
                entries.push(format!("\"{key}\": {}", self.value(key, schema, root)));
            }
        }
        if schema["additionalProperties"].is_object() {
            for key in ["tools", "skills", "prompts", "claude"] {
                if self.below(4) == 0 {
                    let value = self.value("subdir", &schema["additionalProperties"], root);
                    entries.push(format!("\"{key}\": {value}"));
                }
            }
        }
        format!("{{{}}}", entries.join(", "))
    }
}

/// A configuration with any of the keys that there are.
fn any_keys() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 40..400).prop_map(|numbers| {
        let schema = schema();
        Choices(numbers.iter()).object(&schema, &schema)
    })
}

#[test]
fn any_keys_make_sound_configurations_and_others() {
    let mut runner = TestRunner::deterministic();
    let (mut sound, mut all) = (0, 0);
    while all < 400 {
        let text = any_keys().new_tree(&mut runner).unwrap().current();
        let origin = Origin::File("/w/overlays.yaml".into());
        let loaded = load_text(&origin, text.as_bytes(), &environment("/w"));
        sound += usize::from(loaded.is_ok_and(|loaded| !loaded.config.sources.is_empty()));
        all += 1;
    }
    assert!(sound > 0 && sound < all, "{sound} of {all} have sources");
}

fn token() -> impl Strategy<Value = String> {
    let tokens = [
        "overlays",
        "sources",
        "repo",
        "path",
        "surfaces",
        "mount",
        "toolServer",
        "access",
        ":",
        ": ",
        "\n",
        "  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "<<",
        "!!str ",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "?",
        "null",
        "1.10",
        "a/b",
        "/",
        "..",
        "\t",
        "\0",
        "---\n",
        "...",
        "%",
        "@",
        "`",
        "é",
        "\u{feff}",
    ];
    prop::sample::select(tokens.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_keys_are_read_or_refused(text in any_keys()) {
        read(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }

    #[test]
    fn any_tokens_are_read_or_refused(tokens in prop::collection::vec(token(), 0..60)) {
        read(tokens.concat().as_bytes());
    }

    #[test]
    fn a_mutated_file_is_read_or_refused(
        edits in prop::collection::vec((0..EXAMPLE.len(), token(), 0_usize..20), 1..6),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, token, removed) in edits {
            let start = at.min(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, token.bytes());
        }
        read(&bytes);
    }
}
