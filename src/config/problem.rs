//! What is wrong with a configuration, where, and what to type instead.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::key_path::KeyPath;
use crate::union::name::Printable;

/// Whether a configuration can be used in spite of a [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It can, but someone should look.
    Warning,
    /// It cannot.
    Error,
}

/// One thing that is wrong, with its place and its cure.
///
/// Shown on two lines; nothing in it that came from a file can do anything to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stands in the way.
    pub severity: Severity,
    /// The file as the user named it; `None` for a command line.
    pub file: Option<PathBuf>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The key; the top where no single key is at fault.
    pub key: KeyPath,
    /// What is wrong.
    pub what: String,
    /// What to type instead, with what is allowed; empty where there is nothing to type.
    pub cure: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "error: ",
        })?;
        if let Some(file) = &self.file {
            write!(f, "{}", Printable(&file.to_string_lossy()))?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_top() {
            write!(f, "`{}`: ", Printable(&self.key.to_string()))?;
        }
        write!(f, "{}", Printable(&self.what))?;
        if self.cure.is_empty() {
            return Ok(());
        }
        write!(f, "\n  cure: {}", Printable(&self.cure))
    }
}

/// Everything that stands in the way of using a configuration; never nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// The errors in the order of their lines, without warnings.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_say_place_key_and_cure_and_cannot_reach_the_terminal() {
        let mut problem = Problem {
            severity: Severity::Error,
            file: Some("over\u{1b}lays.yaml".into()),
            line: Some(7),
            key: KeyPath::top("overlays").key("sources").index(1).key("toolSubdir\n"),
            what: "unknown key".to_owned(),
            cure: "did you mean `toolsSubdir`?".to_owned(),
        };
        insta::assert_snapshot!(problem, @r#"
        error: over\x1blays.yaml:7: `overlays.sources[1]["toolSubdir\x0a"]`: unknown key
          cure: did you mean `toolsSubdir`?
        "#);
        problem.severity = Severity::Warning;
        problem.file = None;
        problem.cure.clear();
        problem.key = KeyPath::default();
        assert_eq!(problem.to_string(), "warning: unknown key");
    }
}
