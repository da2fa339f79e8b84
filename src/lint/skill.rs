//! Skills: a directory with a `SKILL.md`, whose front-matter gives the name of the directory.

use saphyr_parser::{Event, Parser};

use super::{LintKind, Visit};
use crate::union::name::Name;

const FILE: &str = "SKILL.md";
const FENCE: &str = "---";

/// Looks at one entry; what is no directory, or has a name that begins with `.`, is no skill.
pub(super) fn look_at(mut visit: Visit<'_>) {
    let entry = &visit.placed.entry;
    let Some(directory) = entry.path.last() else { return };
    if directory.as_bytes().starts_with(b".") {
        return;
    }
    let path = visit.path.clone();
    match visit.is_directory() {
        Ok(true) => {}
        Ok(false) => return,
        Err(kind) => return visit.add(&path, kind),
    }
    let file = Name::new(FILE).expect("a fixed name");
    let file_path = path.join(&file);
    match visit.text(&entry.source_path.join(&file)) {
        Ok(None) => visit.add(&path, LintKind::NoSkillFile),
        Ok(Some(text)) => {
            if let Some(kind) = judge(&text, directory) {
                visit.add(&file_path, kind);
            }
        }
        Err(kind) => visit.add(&file_path, kind),
    }
}

fn judge(text: &str, name_of_directory: &Name) -> Option<LintKind> {
    let directory = name_of_directory.to_string();
    let Some(front) = front_matter(text) else { return Some(LintKind::NoSkillName { directory }) };
    // With the line of the fence the parser's lines are those of the file.
    match name(&format!("\n{front}")) {
        Ok(Some(name)) if name.as_bytes() == name_of_directory.as_bytes() => None,
        Ok(Some(name)) => Some(LintKind::OtherSkillName { name, directory }),
        Ok(None) => Some(LintKind::NoSkillName { directory }),
        Err(error) => Some(LintKind::BadFrontMatter { error }),
    }
}

/// What stands between a first line `---` and the next one.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut at = 0;
    let mut start = None;
    for line in text.split_inclusive('\n') {
        let is_fence = line.trim_end() == FENCE;
        match start {
            None if is_fence => start = Some(at + line.len()),
            None => return None,
            Some(start) if is_fence => return Some(&text[start..at]),
            Some(_) => {}
        }
        at += line.len();
    }
    None
}

/// The text of the key `name` at the top of a YAML mapping.
fn name(yaml: &str) -> Result<Option<String>, String> {
    let mut depth = 0_u32;
    // At the top of the mapping keys and values take turns.
    let mut is_key = true;
    let mut is_name = false;
    for event in Parser::new_from_str(yaml) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => {
                depth = depth.saturating_sub(1);
                if depth == 1 {
                    is_key = !is_key;
                    is_name = false;
                }
            }
            Event::Scalar(text, ..) if depth == 1 => {
                if is_name && !is_key {
                    return Ok(Some(text.into_owned()).filter(|text| !text.is_empty()));
                }
                is_name = is_key && text == "name";
                is_key = !is_key;
            }
            Event::Alias(..) if depth == 1 => {
                is_key = !is_key;
                is_name = false;
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_as_it_is_and_not_as_it_is_shown() {
        let directory = Name::new("a\\b").unwrap();
        assert_eq!(judge("---\nname: a\\b\n---\n", &directory), None);
        assert!(judge("---\nname: a\\\\b\n---\n", &directory).is_some());
    }

    #[test]
    fn names_stand_at_the_top_of_the_front_matter() {
        let directory = Name::new("a").unwrap();
        for (text, wanted) in [
            ("---\nname: a\n---\n", None),
            ("---\r\nname: \"a\" # x\r\n---\r\n", None),
            ("---\ntags: [name, b]\nmeta: {name: c}\nname: a\n---\nbody\n", None),
            ("---\nanchored: &x y\nother: *x\nname: a\n---\n", None),
            ("---\nname: b\n---\n", Some("says `name: b`, and its directory is `a`")),
            ("---\nmeta:\n  name: a\n---\n", Some("has no `name` in its front-matter")),
            ("---\nname:\n---\n", Some("has no `name` in its front-matter")),
            ("---\nname: a\n", Some("has no `name` in its front-matter")),
            ("name: a\n", Some("has no `name` in its front-matter")),
            ("", Some("has no `name` in its front-matter")),
        ] {
            let said = judge(text, &directory).map(|kind| kind.to_string());
            assert_eq!(said.as_deref(), wanted, "{text:?}");
        }
        let bad = judge("---\nname: [a\n---\n", &directory);
        assert!(matches!(bad, Some(LintKind::BadFrontMatter { .. })), "{bad:?}");
    }
}
