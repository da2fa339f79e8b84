//! Workflows: every `*.py` at any depth but `__init__.py` and `_*`. Two with one `WORKFLOW_NAME` make a reader refuse all.

use std::collections::HashMap;

use super::content::unreadable;
use super::{LintKind, VisiblePlace, Visit};
use crate::union::name::{Name, RelPath};
use crate::union::object::{Kind, Object};

const VARIABLE: &str = "WORKFLOW_NAME";

/// So many names are looked at below the workflows of a view.
const NAMES_MAX: usize = 100_000;

/// The workflows that were seen so far.
#[derive(Default)]
pub(super) struct Workflows {
    first: HashMap<String, VisiblePlace>,
    names: usize,
}

impl Workflows {
    /// Looks at one entry: a file, or a directory with all that is below it.
    pub(super) fn look_at(&mut self, mut visit: Visit<'_>) {
        let entry = &visit.placed.entry;
        // What is still to be looked at, the next one last: in the view, in the source, what it is.
        let mut pending =
            vec![(visit.path.clone(), entry.source_path.clone(), entry.object.clone())];
        while let Some((path, source_path, object)) = pending.pop() {
            match object.kind() {
                Kind::Directory => match self.below(&visit, &path, &source_path, &object) {
                    Ok(below) => pending.extend(below.into_iter().rev()),
                    Err(kind) => visit.add(&path, kind),
                },
                Kind::File { .. } | Kind::Link => self.file(&mut visit, &path, &source_path),
            }
        }
    }

    fn below(
        &mut self,
        visit: &Visit<'_>,
        path: &RelPath,
        source_path: &RelPath,
        directory: &Object,
    ) -> Result<Vec<(RelPath, RelPath, Object)>, LintKind> {
        let listed = visit.store().list(directory).map_err(|error| unreadable(&error))?;
        self.names += listed.len();
        if self.names > NAMES_MAX {
            return Err(LintKind::Unfinished);
        }
        let below = listed
            .into_iter()
            .map(|listed| (path.join(&listed.name), source_path.join(&listed.name), listed.object));
        Ok(below.collect())
    }

    fn file(&mut self, visit: &mut Visit<'_>, path: &RelPath, source_path: &RelPath) {
        if !path.last().is_some_and(is_workflow) {
            return;
        }
        let name = match visit.text(source_path) {
            Ok(text) => text.as_deref().and_then(workflow_name),
            Err(kind) => return visit.add(path, kind),
        };
        let Some(name) = name else { return };
        match self.first.get(&name) {
            Some(first) => {
                let first = first.clone();
                visit.add(path, LintKind::SameWorkflowName { name, first });
            }
            None => drop(self.first.insert(name, visit.place(path))),
        }
    }
}

fn is_workflow(name: &Name) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".py") && !name.starts_with(b"_")
}

/// The text that a module assigns to `WORKFLOW_NAME` at its top level; `None` if it assigns none, or no plain text.
fn workflow_name(python: &str) -> Option<String> {
    let mut name = None;
    let mut inside: Option<&str> = None;
    for line in python.lines() {
        if inside.is_none()
            && let Some(value) = assigned(line)
        {
            name = literal(value);
        }
        inside = after(line, inside);
    }
    name
}

/// What stands after the `=` of an assignment to the variable, with or without a type.
fn assigned(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(VARIABLE)?.trim_start();
    let rest = match rest.strip_prefix(':') {
        Some(annotated) => &annotated[annotated.find('=')?..],
        None => rest,
    };
    let value = rest.strip_prefix('=')?;
    (!value.starts_with('=')).then(|| value.trim_start_matches([' ', '\t', '(']))
}

/// The text of a string literal without escapes.
fn literal(value: &str) -> Option<String> {
    let value = value.trim_start_matches(['u', 'r', 'U', 'R']);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| value.starts_with(quote))?;
    let (text, _) = value[quote.len()..].split_once(quote)?;
    (!text.is_empty() && !text.contains('\\')).then(|| text.to_owned())
}

/// The quotes of the long string that is open at the end of a line, given those that are open at its start.
fn after<'a>(line: &str, mut inside: Option<&'a str>) -> Option<&'a str> {
    let mut rest = line;
    loop {
        if let Some(quote) = inside {
            match rest.find(quote) {
                Some(at) => (rest, inside) = (&rest[at + 3..], None),
                None => return inside,
            }
        }
        // A comment ends what may open a string, unless the sign stands in a short string.
        let next = rest.find(['"', '\'', '#'])?;
        let from = &rest[next..];
        if from.starts_with('#') {
            return None;
        }
        let long = ["\"\"\"", "'''"].into_iter().find(|quote| from.starts_with(quote));
        match long {
            Some(quote) => (rest, inside) = (&from[3..], Some(quote)),
            None => rest = &from[short(from)..],
        }
    }
}

/// The length of a string on one line, its quotes included; an open one goes to the end.
fn short(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_a_plain_assignment_at_the_top_level() {
        for (python, name) in [
            ("WORKFLOW_NAME = \"a\"\n", Some("a")),
            ("x = 1\nWORKFLOW_NAME='a'  # b\n", Some("a")),
            ("WORKFLOW_NAME: Final[str] = (\"a\")\n", Some("a")),
            ("WORKFLOW_NAME = 'a'\nWORKFLOW_NAME = 'b'\n", Some("b")),
            ("\"\"\"\nWORKFLOW_NAME = 'no'\n\"\"\"\nWORKFLOW_NAME = 'a'\n", Some("a")),
            ("x = '''#'''\ny = \"'''\"  # '''\nWORKFLOW_NAME = 'a'\n", Some("a")),
            ("'it\\'s'\nWORKFLOW_NAME = 'a'\n", Some("a")),
            ("# '''\nWORKFLOW_NAME = 'a'", Some("a")),
            ("  WORKFLOW_NAME = 'a'\n", None),
            ("WORKFLOW_NAME == 'a'\n", None),
            ("WORKFLOW_NAMES = 'a'\n", None),
            ("WORKFLOW_NAME = f'{x}'\n", None),
            ("WORKFLOW_NAME = name()\n", None),
            ("WORKFLOW_NAME: str\n", None),
            ("WORKFLOW_NAME = 'é", None),
            ("", None),
        ] {
            assert_eq!(workflow_name(python).as_deref(), name, "{python}");
        }
    }
}
