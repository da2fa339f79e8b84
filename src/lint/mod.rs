//! What the view shows and its readers stumble over: skills, workflows and tools that fail where they are used, without a word of where.
//!
//! Reads the visible entries of one snapshot through the stores of its sources, within bounds; nothing here decides what is visible.
//! One file for each kind of content: what its readers want is stated there.

mod content;
mod skill;
mod tool;
mod workflow;

use std::fmt;

use crate::snapshot::Snapshot;
use crate::union::name::RelPath;
use crate::union::namespace::Placed;
use crate::union::source::SourceId;
use crate::union::surface::{EntryRule, Surface};

/// Something visible that a reader of the view stumbles over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Where it is in the view.
    pub path: RelPath,
    /// The source that shows it.
    pub source: SourceId,
    /// What is wrong with it.
    pub kind: LintKind,
}

/// A visible place, for messages that name two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisiblePlace {
    /// Where it is in the view.
    pub path: RelPath,
    /// What commands call its source.
    pub source: String,
}

impl fmt::Display for VisiblePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {}", self.path, self.source)
    }
}

/// What may be wrong with a visible entry or file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LintKind {
    /// A skill's directory has no `SKILL.md`.
    NoSkillFile,
    /// A `SKILL.md` begins without front-matter, or that has no `name`.
    NoSkillName {
        /// The name of the skill's directory.
        directory: String,
    },
    /// The front-matter of a `SKILL.md` is not valid YAML.
    BadFrontMatter {
        /// What the parser said.
        error: String,
    },
    /// The `name` of a skill is not its directory's.
    OtherSkillName {
        /// What the front-matter says.
        name: String,
        /// The name of the skill's directory.
        directory: String,
    },
    /// A workflow has the `WORKFLOW_NAME` of an earlier one.
    SameWorkflowName {
        /// The name.
        name: String,
        /// The first file with it.
        first: VisiblePlace,
    },
    /// A tool has a script of the same name as another tool's.
    SameScriptName {
        /// The name.
        name: String,
        /// The first tool with it.
        first: VisiblePlace,
    },
    /// The marker of a tool names no project.
    NoToolName,
    /// The marker of a tool is no TOML.
    BadToolFile {
        /// What the parser said.
        error: String,
    },
    /// A file is too large to be what it should be; it was not looked at.
    TooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// It cannot be read.
    Unreadable {
        /// What failed.
        error: String,
    },
    /// There is more below than is looked at.
    Unfinished,
}

/// Says what is wrong, to follow the path in a sentence.
impl fmt::Display for LintKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSkillFile => f.write_str("has no `SKILL.md`"),
            Self::NoSkillName { .. } => f.write_str("has no `name` in its front-matter"),
            Self::BadFrontMatter { error } => {
                write!(f, "its front-matter is not valid YAML: {error}")
            }
            Self::OtherSkillName { name, directory } => {
                write!(f, "says `name: {name}`, and its directory is `{directory}`")
            }
            Self::SameWorkflowName { name, first } => {
                write!(f, "has the `WORKFLOW_NAME` `{name}` of {first}")
            }
            Self::SameScriptName { name, first } => {
                write!(f, "has a script `{name}`, as {first}")
            }
            Self::NoToolName => f.write_str("has no `name` in `[project]`"),
            Self::BadToolFile { error } => write!(f, "is no TOML: {error}"),
            Self::TooLarge { size_bytes } => {
                write!(f, "has {size_bytes} bytes and was not looked at")
            }
            Self::Unreadable { error } => write!(f, "cannot be read: {error}"),
            Self::Unfinished => f.write_str("holds more names than are looked at"),
        }
    }
}

impl LintKind {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::NoSkillFile => {
                "add a `SKILL.md`, or move the directory out of the skills".to_owned()
            }
            Self::NoSkillName { directory } => {
                format!("begin it with the lines `---`, `name: {directory}`, `---`")
            }
            Self::BadFrontMatter { .. } => {
                "correct what stands between the first two lines `---`".to_owned()
            }
            Self::OtherSkillName { name, directory } => {
                format!("set `name: {directory}`, or call the directory `{name}`")
            }
            Self::SameWorkflowName { first, .. } => format!(
                "give one of them another `WORKFLOW_NAME`, or put it into a later source at `{}`, where it hides the other",
                first.path
            ),
            Self::SameScriptName { first, .. } => format!(
                "rename one of the scripts, or call the later package `{}`, so that it hides the other",
                first.path.last().map(ToString::to_string).unwrap_or_default()
            ),
            Self::NoToolName => "add `name = \"...\"` to its `[project]`".to_owned(),
            Self::BadToolFile { .. } => "correct it at the line that the message names".to_owned(),
            Self::TooLarge { .. } => "put there the file that its name promises".to_owned(),
            Self::Unreadable { .. } => {
                "run `git fsck` in the source's repository, then fetch what is lacking".to_owned()
            }
            Self::Unfinished => "move what is no workflow out of the workflows".to_owned(),
        }
    }
}

/// Looks at every visible entry whose readers are known: skills, workflows, packages. Sorted by path.
pub fn lint(snapshot: &Snapshot) -> Vec<Lint> {
    let mut found = Vec::new();
    let mut workflows = workflow::Workflows::default();
    let mut tools = tool::Tools::default();
    for (surface, stack) in snapshot.surfaces.iter().zip(&snapshot.stacks) {
        let mut visible: Vec<_> = stack.visible().collect();
        visible.sort_by(|one, other| one.entry.path.cmp(&other.entry.path));
        for placed in visible {
            let visit = Visit::new(snapshot, surface, placed, &mut found);
            match &surface.rule {
                EntryRule::Packages { marker, .. } => tools.look_at(visit, marker),
                EntryRule::Children if is_called(surface, "skills") => skill::look_at(visit),
                EntryRule::Children if is_called(surface, "workflows") => workflows.look_at(visit),
                EntryRule::Children | EntryRule::Prompts => {}
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// True if a surface holds what the word says: by its own name, or by the last component of its place (`.claude/skills`).
fn is_called(surface: &Surface, word: &str) -> bool {
    surface.name == word || surface.at.last().is_some_and(|name| name.as_bytes() == word.as_bytes())
}

/// A visible entry that is looked at, and where what is found goes.
struct Visit<'a> {
    snapshot: &'a Snapshot,
    placed: &'a Placed,
    /// Where the entry is in the view.
    path: RelPath,
    found: &'a mut Vec<Lint>,
}

impl<'a> Visit<'a> {
    fn new(
        snapshot: &'a Snapshot,
        surface: &Surface,
        placed: &'a Placed,
        found: &'a mut Vec<Lint>,
    ) -> Self {
        Self { snapshot, placed, path: surface.at.concat(&placed.entry.path), found }
    }

    fn add(&mut self, path: &RelPath, kind: LintKind) {
        self.found.push(Lint { path: path.clone(), source: self.placed.source, kind });
    }

    fn place(&self, path: &RelPath) -> VisiblePlace {
        let source = self.snapshot.source(self.placed.source).label.clone();
        VisiblePlace { path: path.clone(), source }
    }
}
