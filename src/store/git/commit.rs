//! Commits and tags, decoded by hand: a malformed one is an error, whatever it holds.

use crate::union::object::Oid;

/// What of a commit decides the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The tree at its top.
    pub tree: Oid,
    /// When it was committed, in seconds since 1970; 0 if it does not say.
    pub time_secs: i64,
}

/// Times beyond the year 9999 are cut: no calendar and few file systems know them.
const TIME_SECS_MAX: i64 = 253_402_300_799;

impl Commit {
    /// Reads a commit; `None` if it does not start with a tree.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = headers(bytes);
        let tree = oid(lines.next()?.strip_prefix(b"tree ")?)?;
        let committer = lines.find_map(|line| line.strip_prefix(b"committer "));
        Some(Self { tree, time_secs: committer.and_then(time_secs).unwrap_or(0) })
    }
}

/// The object that a tag names; `None` if it does not start with one.
pub(super) fn tag_target(bytes: &[u8]) -> Option<Oid> {
    oid(headers(bytes).next()?.strip_prefix(b"object ")?)
}

fn headers(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty())
}

/// Reads the time of a line `NAME <MAIL> SECONDS ZONE`.
fn time_secs(committer: &[u8]) -> Option<i64> {
    let end = committer.iter().rposition(|byte| *byte == b'>')?;
    let text = std::str::from_utf8(&committer[end + 1..]).ok()?;
    let seconds: i64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(seconds.clamp(0, TIME_SECS_MAX))
}

/// Reads an id of 40 or 64 hexadecimal digits.
pub fn oid(hex: &[u8]) -> Option<Oid> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        hex.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    Oid::from_bytes(&bytes?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_commit_gives_its_tree_and_time() {
        let text = format!(
            "tree {ID}\nauthor A <a@b> 1 +0000\ncommitter C <> x> 1700000000 -0330\n\ncommitter D <> 5 +0\n"
        );
        let commit = Commit::decode(text.as_bytes()).unwrap();
        assert_eq!((commit.tree.to_string().as_str(), commit.time_secs), (ID, 1_700_000_000));
    }

    #[test]
    fn malformed_commits_are_no_panic() {
        for (text, time) in [
            (format!("tree {ID}"), Some(0)),
            (format!("tree {ID}\ncommitter"), Some(0)),
            (format!("tree {ID}\ncommitter A <a> 99999999999999999999 +0"), Some(0)),
            (format!("tree {ID}\ncommitter A <a> 9223372036854775807 +0"), Some(TIME_SECS_MAX)),
            (format!("tree {ID}\ncommitter A <a> -5 +0"), Some(0)),
            (format!("tree {ID}0"), None),
            (format!("tree {}zz", &ID[2..]), None),
            ("tree ".into(), None),
            (String::new(), None),
            (format!("author x\ntree {ID}"), None),
        ] {
            assert_eq!(
                Commit::decode(text.as_bytes()).map(|commit| commit.time_secs),
                time,
                "{text}"
            );
        }
        assert!(Commit::decode(b"\xff\n\n\0").is_none());
        assert!(tag_target(b"object 12\n").is_none());
        assert_eq!(
            tag_target(format!("object {ID}\ntype commit\n").as_bytes()),
            oid(ID.as_bytes())
        );
    }
}
