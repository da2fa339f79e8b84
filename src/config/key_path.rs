//! Where a value stands in a configuration file.

use std::fmt;

/// The way from the top of a file to one value, shown as `overlays.sources[2].ref`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a sequence, from 0.
    Index(usize),
}

impl KeyPath {
    /// The path of a key at the top of a file.
    pub fn top(key: &str) -> Self {
        Self::default().key(key)
    }

    /// This path, then `key`.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path, then the item at `index`.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// True for the top of a file.
    pub fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// True if the value here is that of `other`, contains it, or is in the same mapping: then it may be wrong only because that one is.
    pub(super) fn depends_on(&self, other: &Self) -> bool {
        let is_beside = match (self.0.split_last(), other.0.split_last()) {
            (Some((Step::Key(_), here)), Some((Step::Key(_), there))) => here == there,
            (None | Some(_), None | Some(_)) => false,
        };
        is_beside || other.0.starts_with(&self.0)
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_word(key) => {
                    write!(f, "{}{key}", if i == 0 { "" } else { "." })?;
                }
                Step::Key(key) => write!(f, "[\"{key}\"]")?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_users_write_them() {
        let path = KeyPath::top("overlays").key("sources").index(2).key("subdirs").key("a.b");
        assert_eq!(path.to_string(), "overlays.sources[2].subdirs[\"a.b\"]");
        assert_eq!(KeyPath::default().to_string(), "");
    }

    #[test]
    fn a_value_depends_on_what_it_holds_and_on_its_neighbours() {
        let entry = KeyPath::top("sources").index(1);
        for (key, other, expected) in [
            (entry.key("ref"), entry.key("mode"), true),
            (entry.clone(), entry.key("mode"), true),
            (entry.key("mode"), entry.clone(), false),
            (KeyPath::top("sources").index(2), entry.clone(), false),
            (KeyPath::top("sources").index(2).key("ref"), entry.key("mode"), false),
        ] {
            assert_eq!(key.depends_on(&other), expected, "{key} {other}");
        }
    }
}
