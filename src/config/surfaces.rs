//! The table of surfaces: the built-in rows, and what the configuration makes of them.

use std::collections::{BTreeMap, HashMap};

use super::key_path::KeyPath;
use super::raw::{GivenText, RawEntries, RawSurface};
use super::report::Report;
use crate::union::name::{Name, RelPath};
use crate::union::surface::{EntryRule, Presence, Surface};

/// What makes a directory a package unless the row says otherwise.
const MARKER: &str = "pyproject.toml";

/// The deepest level at which packages are looked for unless the row says otherwise.
const DEPTH: u32 = 2;

/// The deepest that a surface may lie: what stands at each place is told by functions that call themselves for each directory on the way.
const LEVELS_MAX: usize = 64;

/// The cure for a path that is no sub-directory.
pub(super) const RELATIVE_CURE: &str =
    "write a relative path without empty and `..` components, as `shared/tools`";

/// The rows that exist without any configuration, in the order of the view.
pub(super) fn built_in() -> Vec<Surface> {
    let row = |name: &str, at: &[&str], has_subdir: bool, rule, presence| {
        let at: RelPath = at.iter().map(|part| known_name(part)).collect();
        let subdir = has_subdir.then(|| at.clone());
        Surface { name: name.to_owned(), at, subdir, rule, presence, never_shown: Vec::new() }
    };
    let mut tools = row("tools", &["tools"], true, packages(), Presence::Always);
    tools.never_shown.push(known_name(".centaur-tools-source.json"));
    vec![
        tools,
        row("workflows", &["workflows"], true, EntryRule::Children, Presence::Always),
        row("skills", &[".agents", "skills"], true, EntryRule::Children, Presence::Always),
        row("personas", &["personas"], false, EntryRule::Children, Presence::IfConfigured),
        row("prompts", &["prompts"], false, EntryRule::Prompts, Presence::IfNotEmpty),
    ]
}

fn packages() -> EntryRule {
    EntryRule::Packages { marker: known_name(MARKER), depth: DEPTH }
}

fn known_name(text: &str) -> Name {
    Name::new(text).expect("a name written in this program is valid")
}

/// The table after the configuration's changes: built-in rows first, then new ones by name.
pub(super) fn resolve(changes: &BTreeMap<String, RawSurface>, report: &mut Report) -> Vec<Surface> {
    let mut rows = built_in();
    let built_in = rows.len();
    for (name, change) in changes {
        let key = KeyPath::top("surfaces").key(name);
        // No name comes twice, so it is one of those that were there before.
        match rows[..built_in].iter_mut().find(|row| row.name == *name) {
            Some(row) => alter(row, change, &key, report),
            None => rows.extend(new_row(name, change, &key, report)),
        }
    }
    check_places(&rows, changes, report);
    rows
}

fn new_row(name: &str, change: &RawSurface, key: &KeyPath, report: &mut Report) -> Option<Surface> {
    if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
        report.error(key, "is no name for a surface", "use letters, digits, `-` and `_`");
    }
    if change.at.is_none() {
        let cure = format!("add `at`, as `{name}: {{at: {name}}}`");
        report.error(key, "a new surface says not where it appears", cure);
        return None;
    }
    let mut row = Surface {
        name: name.to_owned(),
        at: RelPath::root(),
        subdir: None,
        rule: EntryRule::Children,
        presence: Presence::Always,
        never_shown: Vec::new(),
    };
    alter(&mut row, change, key, report);
    if change.subdir == GivenText::Absent {
        row.subdir = Some(row.at.clone());
    }
    Some(row)
}

fn alter(row: &mut Surface, change: &RawSurface, key: &KeyPath, report: &mut Report) {
    if let Some(at) = &change.at
        && let Some(at) = place(at, &key.key("at"), report)
    {
        row.at = at;
    }
    match &change.subdir {
        GivenText::Absent => {}
        GivenText::Empty => row.subdir = None,
        GivenText::Text(text) => row.subdir = subdir(text, &key.key("subdir"), report),
    }
    if let Some(entries) = change.entries {
        set_rule(row, entries);
    }
    alter_packages(row, change, key, report);
}

fn set_rule(row: &mut Surface, entries: RawEntries) {
    let is_prompts = row.rule == EntryRule::Prompts;
    match entries {
        RawEntries::Packages if matches!(row.rule, EntryRule::Packages { .. }) => return,
        RawEntries::Packages => row.rule = packages(),
        RawEntries::Children => row.rule = EntryRule::Children,
        RawEntries::Prompts => row.rule = EntryRule::Prompts,
    }
    if entries == RawEntries::Prompts {
        row.presence = Presence::IfNotEmpty;
    } else if is_prompts {
        row.presence = Presence::IfConfigured;
    }
}

fn alter_packages(row: &mut Surface, change: &RawSurface, key: &KeyPath, report: &mut Report) {
    let EntryRule::Packages { marker, depth } = &mut row.rule else {
        let given = [("marker", change.marker.is_some()), ("depth", change.depth.is_some())];
        for (name, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            let cure = format!("remove `{name}` or set `entries: packages`");
            report.error(&key.key(name), "counts only with `entries: packages`", cure);
        }
        return;
    };
    if let Some(text) = &change.marker {
        match Name::new(text) {
            Ok(name) => *marker = name,
            Err(error) => {
                let cure = format!("write one file name, as `{MARKER}`");
                report.own_error(&key.key("marker"), format!("`{text}` {error}"), cure);
            }
        }
    }
    if let Some(given) = change.depth {
        *depth = given;
    }
}

/// The sub-directory that `text` names, or a problem.
pub(super) fn subdir(text: &str, key: &KeyPath, report: &mut Report) -> Option<RelPath> {
    match RelPath::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            report.own_error(key, format!("`{text}` {error}"), RELATIVE_CURE);
            None
        }
    }
}

fn place(text: &str, key: &KeyPath, report: &mut Report) -> Option<RelPath> {
    let path = subdir(text, key, report)?;
    let taken = match path.first().map(Name::as_bytes) {
        None => "is the root of the view",
        Some(b".overlay") => "lies in `.overlay`, which tells about the view itself",
        Some(_) if path.names().iter().any(|name| name.as_bytes() == b".git") => {
            "goes through `.git`, which is never shown"
        }
        Some(_) if path.names().len() > LEVELS_MAX => {
            let what = format!("lies more than {LEVELS_MAX} directories deep");
            report.error(key, what, "choose another place, as `extras`");
            return None;
        }
        Some(_) => return Some(path),
    };
    report.error(key, format!("`{text}` {taken}"), "choose another place, as `extras`");
    None
}

/// Two surfaces never share a place, nor does one lie in another; the row that the configuration gives is at fault. Of the rows that clash
/// with a later one in the same way the first is named.
fn check_places(rows: &[Surface], changes: &BTreeMap<String, RawSurface>, report: &mut Report) {
    let mut places = Places::default();
    // The root stands for a place that is already a problem.
    for later in rows.iter().filter(|row| !row.at.is_root()) {
        for earlier in places.take(later) {
            let (row, other) =
                if changes.contains_key(&later.name) { (later, earlier) } else { (earlier, later) };
            let relation = if row.at == other.at {
                "is also the place of"
            } else if row.at.strip_prefix(&other.at).is_some() {
                "lies inside"
            } else {
                "holds"
            };
            let key = KeyPath::top("surfaces").key(&row.name).key("at");
            let what = format!("`{}` {relation} surface `{}` (`{}`)", row.at, other.name, other.at);
            report.error(&key, what, "give one of the two another `at`, outside the other");
        }
    }
}

/// The places that are taken, as a tree of names: each is looked at once, however many there are.
#[derive(Default)]
struct Places<'a> {
    root: Place<'a>,
}

#[derive(Default)]
struct Place<'a> {
    /// The first row that is here.
    row: Option<&'a Surface>,
    /// The first row that is below.
    below: Option<&'a Surface>,
    children: HashMap<&'a Name, Place<'a>>,
}

impl<'a> Places<'a> {
    /// Puts a row at its place. Gives earlier rows that are there, above it or below it, the first of each place.
    fn take(&mut self, row: &'a Surface) -> Vec<&'a Surface> {
        let mut clashes = Vec::new();
        let mut place = &mut self.root;
        for name in row.at.names() {
            place.below.get_or_insert(row);
            place = place.children.entry(name).or_default();
            clashes.extend(place.row);
        }
        clashes.extend(place.below);
        place.row.get_or_insert(row);
        clashes
    }
}
