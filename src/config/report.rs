//! Collects the problems of one configuration.

use std::path::{Path, PathBuf};

use super::key_path::KeyPath;
use super::problem::{ConfigError, Problem, Severity};
use super::yaml::YamlNode;

/// The problems found so far in one configuration, each with its line.
#[derive(Debug)]
pub(super) struct Report {
    file: Option<PathBuf>,
    tree: Option<YamlNode>,
    shadowed: Vec<KeyPath>,
    problems: Vec<Problem>,
}

impl Report {
    /// A report about `file`, or about a command line.
    pub(super) fn new(file: Option<&Path>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            tree: None,
            shadowed: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Takes the file's content as the place to look lines up in.
    pub(super) fn set_tree(&mut self, tree: YamlNode) {
        self.tree = Some(tree);
    }

    /// The line of `key`, or of the deepest part of it that the file has.
    pub(super) fn line(&self, key: &KeyPath) -> Option<usize> {
        self.tree.as_ref().map(|tree| tree.line_of(key.steps()))
    }

    /// Notes that the value at `key` was left out: errors of what depends on it are not reported, since they may only follow from that.
    pub(super) fn shadow(&mut self, key: KeyPath) {
        self.shadowed.push(key);
    }

    /// Adds an error at `key`, unless it may only follow from a value that was left out.
    pub(super) fn error(
        &mut self,
        key: &KeyPath,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        if self.shadowed.iter().any(|shadowed| key.depends_on(shadowed)) {
            return;
        }
        let line = self.line(key);
        self.add(Severity::Error, line, key.clone(), what.into(), cure.into());
    }

    /// Adds an error of the text at `key` alone, which no value that was left out beside it can explain.
    pub(super) fn own_error(
        &mut self,
        key: &KeyPath,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let line = self.line(key);
        self.add(Severity::Error, line, key.clone(), what.into(), cure.into());
    }

    /// Adds a warning at `key`.
    pub(super) fn warning(
        &mut self,
        key: &KeyPath,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let line = self.line(key);
        self.add(Severity::Warning, line, key.clone(), what.into(), cure.into());
    }

    /// Adds a problem whose line is known.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        line: Option<usize>,
        key: KeyPath,
        what: String,
        cure: String,
    ) {
        let file = self.file.clone();
        self.problems.push(Problem { severity, file, line, key, what, cure });
    }

    /// True once something stands in the way.
    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The warnings, if nothing stands in the way.
    pub(super) fn finish(mut self) -> Result<Vec<Problem>, ConfigError> {
        self.problems.sort_by_key(|problem| problem.line);
        if self.has_errors() {
            // Warnings may only follow from the errors: they come back once those are gone.
            self.problems.retain(|problem| problem.severity == Severity::Error);
            return Err(ConfigError { problems: self.problems });
        }
        Ok(self.problems)
    }
}
