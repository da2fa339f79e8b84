//! Git trees, decoded with suspicion: what is stored in a repository was checked by nobody.

use crate::store::{LeftOut, LeftOutReason, Listed};
use crate::union::name::Name;
use crate::union::object::{Kind, Object, Oid};

/// An entry of a tree as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawEntry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    oid: &'a [u8],
}

/// The tree ends in the middle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Truncated;

/// Cuts a tree into its entries, in the order in which they are stored.
pub(super) fn raw_entries(
    tree: &[u8],
    id_len: usize,
) -> impl Iterator<Item = Result<RawEntry<'_>, Truncated>> {
    let mut rest = tree;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = cut(rest, id_len);
        rest = entry.map_or(&[], |(_, rest)| rest);
        Some(entry.map(|(entry, _)| entry).ok_or(Truncated))
    })
}

fn cut(bytes: &[u8], id_len: usize) -> Option<(RawEntry<'_>, &[u8])> {
    let nul = bytes.iter().position(|byte| *byte == 0)?;
    let space = bytes[..nul].iter().position(|byte| *byte == b' ')?;
    let after = &bytes[nul + 1..];
    let (oid, rest) = after.split_at_checked(id_len)?;
    Some((RawEntry { mode: &bytes[..space], name: &bytes[space + 1..nul], oid }, rest))
}

impl RawEntry<'_> {
    /// The entry as it is served, or why it is left out (S30).
    pub(super) fn check(&self) -> Result<Listed, LeftOutReason> {
        if self.name == b".git" {
            return Err(LeftOutReason::GitDirectory);
        }
        let name = Name::new(self.name).map_err(LeftOutReason::BadName)?;
        let object = object(self.mode, self.oid).ok_or(LeftOutReason::UnknownMode)?;
        Ok(Listed { name, object })
    }
}

fn object(mode: &[u8], oid: &[u8]) -> Option<Object> {
    let kind = match octal(mode)? {
        0o100_644 | 0o100_664 => Kind::File { is_executable: false },
        0o100_755 => Kind::File { is_executable: true },
        0o120_000 => Kind::Link,
        0o40_000 => Kind::Directory,
        0o160_000 => return Some(Object::Empty),
        _ => return None,
    };
    Some(Object::Frozen { kind, oid: Oid::from_bytes(oid)? })
}

/// Reads a mode; git itself accepts leading zeros.
fn octal(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'7' => Some(value * 8 + u32::from(digit - b'0')),
        _ => None,
    })
}

/// What is served of a tree, sorted by the bytes of the names, and what is left out.
pub(super) fn decode(tree: &[u8], id_len: usize) -> Result<(Vec<Listed>, Vec<LeftOut>), Truncated> {
    let mut served: Vec<Listed> = Vec::new();
    let mut left_out = Vec::new();
    for entry in raw_entries(tree, id_len) {
        let entry = entry?;
        match entry.check() {
            Ok(listed) => served.push(listed),
            Err(reason) => left_out.push(LeftOut { name: entry.name.to_vec(), reason }),
        }
    }
    // Git sorts a directory as if its name ended in `/`. The sort is stable: of equal names the first stored comes first.
    served.sort_by(|a, b| a.name.cmp(&b.name));
    served.dedup_by(|later, first| {
        let is_repeated = later.name == first.name;
        if is_repeated {
            let name = later.name.as_bytes().to_vec();
            left_out.push(LeftOut { name, reason: LeftOutReason::Repeated });
        }
        is_repeated
    });
    Ok((served, left_out))
}

/// The object of this name, as [`decode`] would list it.
pub(super) fn find(tree: &[u8], id_len: usize, name: &[u8]) -> Result<Option<Object>, Truncated> {
    let mut found = None;
    // The whole tree is looked at: of a cut one nothing is served, whether listed or looked up.
    for entry in raw_entries(tree, id_len) {
        let entry = entry?;
        if found.is_none() && entry.name == name {
            found = entry.check().ok().map(|listed| listed.object);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LeftOutReason::{BadName, GitDirectory, Repeated, UnknownMode};
    use crate::union::name::NameError;

    fn tree(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, (mode, name)) in entries.iter().enumerate() {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend([u8::try_from(index).unwrap(); 20]);
        }
        bytes
    }

    #[test]
    fn names_are_sorted_by_their_bytes() {
        let stored = tree(&[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")]);
        let (served, left_out) = decode(&stored, 20).unwrap();
        let names: Vec<_> = served.iter().map(|listed| listed.name.to_string()).collect();
        assert_eq!(names, ["a", "a.b", "a0"]);
        assert!(left_out.is_empty());
    }

    #[test]
    fn bad_entries_are_left_out_and_their_neighbours_served() {
        let long = [b'x'; 256];
        let stored = tree(&[
            ("100644", b""),
            ("100644", b"."),
            ("40000", b".."),
            ("40000", b".git"),
            ("100644", b"a/b"),
            ("100644", &long),
            ("100600", b"mode"),
            ("", b"no-mode"),
            ("99", b"not-octal"),
            ("100644", b"twice"),
            ("120000", b"twice"),
            ("100664", b"group"),
            ("040000", b"zero"),
            ("160000", b"module"),
            ("100755", b"\xff:\t"),
        ]);
        let (served, left_out) = decode(&stored, 20).unwrap();
        let names: Vec<_> = served.iter().map(|listed| listed.name.as_bytes()).collect();
        assert_eq!(names, [&b"group"[..], b"module", b"twice", b"zero", b"\xff:\t"]);
        assert_eq!(served[1].object, Object::Empty);
        for name in [&b".git"[..], b"", b"..", b"a/b", b"mode", b"twice", b"group", b"other"] {
            let listed = served.iter().find(|listed| listed.name.as_bytes() == name);
            assert_eq!(find(&stored, 20, name).unwrap().as_ref(), listed.map(|l| &l.object));
        }
        assert_eq!(served[2].object.kind(), Kind::File { is_executable: false });
        let reasons: Vec<_> = left_out.iter().map(|left| left.reason).collect();
        assert_eq!(
            reasons,
            [
                BadName(NameError::Empty),
                BadName(NameError::Dots),
                BadName(NameError::Dots),
                GitDirectory,
                BadName(NameError::Slash),
                BadName(NameError::TooLong),
                UnknownMode,
                UnknownMode,
                UnknownMode,
                Repeated,
            ]
        );
    }

    #[test]
    fn a_cut_tree_is_an_error() {
        let stored = tree(&[("100644", b"a"), ("100644", b"b")]);
        for len in 1..stored.len() {
            let whole_entry = len == stored.len() / 2;
            assert_eq!(decode(&stored[..len], 20).is_ok(), whole_entry, "{len}");
        }
        assert!(decode(b"100644\0", 20).is_err());
        assert_eq!(decode(b"", 20).unwrap().0, []);
    }
}
