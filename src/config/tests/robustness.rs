//! No bytes make this room panic, hang or grow.

use proptest::prelude::*;

use crate::config::fixture::refusal;
use crate::config::fuzzing;

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
    assert!(refusal(&text).contains("stands for more than 50000 values"));
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
