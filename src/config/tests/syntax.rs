//! What users read when a file is not valid YAML, or means nothing.

use crate::config::fixture::refusal;

#[test]
fn duplicate_keys_are_reported() {
    let text = concat!("access: all\n", "mount:\n", "  at: /a\n", "  at: /b\n", "access: none\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:4: key `at` is given twice, first on line 3
      cure: remove one of the two
    error: overlays.yaml:5: key `access` is given twice, first on line 1
      cure: remove one of the two
    "#);
}

#[test]
fn one_document_only() {
    let text = concat!("access: all\n", "---\n", "access: none\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:3: a second document begins
      cure: keep one document and remove the `---` line between them
    "#);
}

#[test]
fn tabs_are_named() {
    let text = concat!("mount:\n", "\tat: /x\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: is not valid YAML: tabs disallowed within this context (block indentation)
      cure: indent with spaces: YAML permits no tabs there
    "#);
}

#[test]
fn broken_yaml_has_a_line() {
    let text = concat!("mount: {at: /x\n", "access: [\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: is not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'
      cure: correct this line or the one before; check indentation, quotes and brackets
    "#);
}

#[test]
fn aliases_of_themselves_are_refused() {
    let text = concat!("mount: &a\n", "  at: *a\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: an alias stands inside what it names
      cure: write it out
    "#);
}

#[test]
fn keys_are_text() {
    let text = concat!("? [a, b]\n", ": c\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: a key is a list or a mapping
      cure: write the key as plain text
    "#);
}

#[test]
fn control_characters_are_escaped() {
    let text =
        concat!("\"\\e[31mx\": 1\n", "overlays:\n", "  sources:\n", "    - repo: \"a\\e[2J\"\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `["\x1b[31mx"]`: unknown key
      cure: known keys: `access`, `mount`, `overlays`, `repoCache`, `state`, `surfaces`, `toolServer`
    error: overlays.yaml:4: `overlays.sources[0].repo`: `a\x1b[2J` has not exactly two components
      cure: write `owner/repo`; where to clone from is `url`
    "#);
}

#[test]
fn a_configuration_is_a_mapping() {
    let text = concat!("- a\n", "- b\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: is a list
      cure: write a mapping
    "#);
}
