//! Names and relative paths, as bytes.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest name that Linux can look up, in bytes (`NAME_MAX`, `limits.h`).
pub const NAME_MAX: usize = 255;

/// A single path component: bytes, not necessarily text.
///
/// Never empty, `.` or `..`; holds neither `/` nor NUL; at most [`NAME_MAX`] bytes. Ordered by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

/// Why bytes are no [`Name`] or no [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum NameError {
    /// The component has no bytes.
    #[error("has an empty component")]
    Empty,
    /// The component is `.` or `..`.
    #[error("has a `.` or `..` component")]
    Dots,
    /// The component holds a `/`.
    #[error("has a component with `/` in it")]
    Slash,
    /// The component holds a NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// The component has more than [`NAME_MAX`] bytes.
    #[error("has a component of more than 255 bytes")]
    TooLong,
    /// The path starts with `/`.
    #[error("is absolute")]
    Absolute,
}

impl Name {
    /// Checks `bytes` and takes them as a name.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let bytes = bytes.as_ref();
        match bytes {
            b"" => return Err(NameError::Empty),
            b"." | b".." => return Err(NameError::Dots),
            _ => {}
        }
        if bytes.contains(&b'/') {
            return Err(NameError::Slash);
        }
        if bytes.contains(&0) {
            return Err(NameError::Nul);
        }
        if bytes.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the name with everything that is not printable text escaped.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Writes bytes as text: printable characters as they are, a backslash doubled, all else as `\xNN` or `\u{N}`.
fn write_escaped(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                c => write_printable(c, f)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Writes one character so that it can do nothing to a terminal: as it is if printable, else as `\xNN` or `\u{N}`.
///
/// # Errors
/// Passes on what the formatter says.
pub fn write_printable(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match c {
        // Bidirectional marks and overrides and invisible characters would let a name pose as another one. `\xNN` is a byte: a control
        // character of two bytes is not written so, or two names would look alike.
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => write!(f, "\\u{{{:x}}}", u32::from(c)),
        c if c.is_control() => write!(f, "\\x{:02x}", u32::from(c)),
        c => fmt::Write::write_char(f, c),
    }
}

/// Shows text of one line so that it can do nothing to a terminal: what is not printable is escaped.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_printable(c, f))
    }
}

/// A relative path: any number of [`Name`]s; none is the place it is relative to.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<Name>);

impl RelPath {
    /// The path of no components.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path as users write it: trailing slashes and `.` components are ignored (S14).
    ///
    /// # Errors
    /// Refuses absolute paths, empty and `..` components, NUL, and components over 255 bytes.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, NameError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.starts_with(b"/") {
            return Err(NameError::Absolute);
        }
        let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
        let mut names = Vec::new();
        for part in bytes[..end].split(|b| *b == b'/') {
            if part != b"." {
                names.push(Name::new(part)?);
            }
        }
        Ok(Self(names))
    }

    /// The components in order.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// True for the path of no components.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The first component, if there is one.
    pub fn first(&self) -> Option<&Name> {
        self.0.first()
    }

    /// The last component, if there is one.
    pub fn last(&self) -> Option<&Name> {
        self.0.last()
    }

    /// The path without its last component; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// This path with one more component.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut names = Vec::with_capacity(self.0.len() + 1);
        names.extend_from_slice(&self.0);
        names.push(name.clone());
        Self(names)
    }

    /// This path followed by `other`.
    #[must_use]
    pub fn concat(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// What follows `prefix` in this path; `None` if this path does not start with it.
    pub fn strip_prefix(&self, prefix: &Self) -> Option<Self> {
        self.0.strip_prefix(prefix.0.as_slice()).map(|rest| Self(rest.to_vec()))
    }

    /// The components joined by `/`, as system calls take them; `.` for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return b".".to_vec();
        }
        self.0.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }
}

impl FromIterator<Name> for RelPath {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

/// Shows the path with everything that is not printable text escaped; `.` for the root.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (i, name) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("/")?;
            }
            write!(f, "{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_no_directory_can_hold() {
        for (bytes, error) in [
            (&b""[..], NameError::Empty),
            (b".", NameError::Dots),
            (b"..", NameError::Dots),
            (b"a/b", NameError::Slash),
            (b"a\0", NameError::Nul),
            (&[b'x'; 256], NameError::TooLong),
        ] {
            assert_eq!(Name::new(bytes), Err(error));
        }
        assert!(Name::new([b'x'; 255]).is_ok());
        assert!(Name::new(b"\xff\xfe\n").is_ok());
    }

    #[test]
    fn paths_ignore_trailing_slashes_and_dots() {
        let parsed = |text| RelPath::parse(text).map(|path| path.to_string());
        assert_eq!(parsed("./a/./b//"), Ok("a/b".to_owned()));
        assert_eq!(RelPath::parse("."), Ok(RelPath::root()));
        assert_eq!(RelPath::parse("./"), Ok(RelPath::root()));
        for (text, error) in [
            ("", NameError::Empty),
            ("/a", NameError::Absolute),
            ("/", NameError::Absolute),
            ("a//b", NameError::Empty),
            ("a/../b", NameError::Dots),
            ("..", NameError::Dots),
        ] {
            assert_eq!(RelPath::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn names_are_shown_escaped() {
        for (bytes, shown) in [
            (&b"a\x1b[31m"[..], "a\\x1b[31m"),
            (b"\xff\\", "\\xff\\\\"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
            ("a\u{61c}b".as_bytes(), "a\\u{61c}b"),
            ("käse".as_bytes(), "käse"),
        ] {
            assert_eq!(Name::new(bytes).map(|name| name.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn no_two_names_are_shown_alike() {
        let names: [&[u8]; 8] = [
            b"a\x9bb",
            "a\u{9b}b".as_bytes(),
            b"a\\x9bb",
            b"a\\u{9b}b",
            b"a\\\\x9bb",
            b"a\x85b",
            "a\u{85}b".as_bytes(),
            b"ab",
        ];
        let shown: std::collections::BTreeSet<_> =
            names.iter().map(|name| Name::new(name).map(|name| name.to_string())).collect();
        assert!(shown.len() == names.len() && shown.iter().all(Result::is_ok), "{shown:?}");
    }
}
