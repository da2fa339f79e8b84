//! Revisions of sources, and the name of a set of them.

use std::fmt;

use super::hex::Hex;
use super::object::Oid;

/// What a source resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revision {
    /// A commit of a git repository.
    Commit(Oid),
    /// A digest of the entry lists of a live directory.
    Listing([u8; 32]),
    /// The source cannot be read at present and stands for an empty one.
    Missing,
}

/// Shows a commit or a digest in hexadecimal digits, and a missing source as `-`.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(oid) => oid.fmt(f),
            Self::Listing(digest) => Hex(digest).fmt(f),
            Self::Missing => f.write_str("-"),
        }
    }
}

/// The name of a revision set: a SHA-256 digest of all that decides a name or a byte of the view (S38).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionSetId(pub [u8; 32]);

impl RevisionSetId {
    /// Reads 64 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut id = [0; 32];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != id.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(id))
    }
}

/// Shows the digest as 64 hexadecimal digits.
impl fmt::Display for RevisionSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for RevisionSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
