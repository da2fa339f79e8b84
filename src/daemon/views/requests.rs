//! What a worker asks of its broker, and what that answers: fields with a byte 0 between them, which no path has.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::holdings::BoundAs;

/// The number of what answers no request: who was asked has died.
pub(super) const DIED: u64 = 0;

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Take all away but these superblocks with what is bound from them.
    Clear { but: Vec<u64> },
    /// Mount a superblock for the view of a file.
    Mount { number: u64, name: OsString },
    /// Bind the view of a file from a superblock. The mount point is where the worker takes it to be: if it is another one nothing is bound.
    Bind { number: u64, name: OsString, at: PathBuf },
    /// Take the view of a file away.
    Unbind { name: OsString },
    /// Take a superblock away.
    TakeAway { number: u64 },
    /// Cut off whoever holds a superblock.
    Abort { connection: u32 },
}

/// What a broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// It was done; a device comes with it where one was asked for.
    Done,
    /// A view was bound.
    Bound(BoundAs),
    /// It was not done.
    Refused { message: String, cure: Option<String> },
}

impl Request {
    /// As it is sent, under a number that its answer has too.
    pub(super) fn to_bytes(&self, id: u64) -> Vec<u8> {
        let number = |number: &dyn ToString| number.to_string().into_bytes();
        let (word, fields) = match self {
            Self::Clear { but } => ("clear", but.iter().map(|one| number(one)).collect()),
            Self::Mount { number: one, name } => {
                ("mount", vec![number(one), name.as_bytes().to_vec()])
            }
            Self::Bind { number: one, name, at } => {
                let at = at.as_os_str().as_bytes().to_vec();
                ("bind", vec![number(one), name.as_bytes().to_vec(), at])
            }
            Self::Unbind { name } => ("unbind", vec![name.as_bytes().to_vec()]),
            Self::TakeAway { number: one } => ("take", vec![number(one)]),
            Self::Abort { connection } => ("abort", vec![number(connection)]),
        };
        joined(id, word, fields)
    }

    /// What was sent, with its number.
    pub(super) fn parse(sent: &[u8]) -> Option<(u64, Self)> {
        let (id, word, fields) = split(sent)?;
        let request = match (word, fields.as_slice()) {
            (b"clear", but) => {
                Self::Clear { but: but.iter().map(|one| number(one)).collect::<Option<_>>()? }
            }
            (b"mount", [one, name]) => Self::Mount { number: number(one)?, name: text(name) },
            (b"bind", [one, name, at]) => {
                Self::Bind { number: number(one)?, name: text(name), at: text(at).into() }
            }
            (b"unbind", [name]) => Self::Unbind { name: text(name) },
            (b"take", [one]) => Self::TakeAway { number: number(one)? },
            (b"abort", [one]) => Self::Abort { connection: number(one)?.try_into().ok()? },
            _ => return None,
        };
        Some((id, request))
    }
}

/// The number of a request whose word may be another program's.
pub(super) fn number_of(sent: &[u8]) -> Option<u64> {
    split(sent).map(|(id, _, _)| id)
}

impl Reply {
    /// The answer to what another program asks for.
    pub(super) fn not_understood() -> Self {
        let message = "what mounts for this process is of another version".to_owned();
        Self::Refused { message, cure: Some("mount anew when it suits".to_owned()) }
    }

    /// As it is sent.
    pub(super) fn to_bytes(&self, id: u64) -> Vec<u8> {
        let path = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
        let (word, fields) = match self {
            Self::Done => ("done", Vec::new()),
            Self::Bound(BoundAs { mount_id, made }) => {
                let id = mount_id.to_string().into_bytes();
                ("bound", [id].into_iter().chain(made.iter().map(path)).collect())
            }
            Self::Refused { message, cure } => {
                let texts = [message].into_iter().chain(cure);
                ("refused", texts.map(|text| text.replace('\0', " ").into_bytes()).collect())
            }
        };
        joined(id, word, fields)
    }

    /// What was sent, with its number.
    pub(super) fn parse(sent: &[u8]) -> Option<(u64, Self)> {
        let (id, word, fields) = split(sent)?;
        let said = |text: &&[u8]| String::from_utf8_lossy(text).into_owned();
        let reply = match (word, fields.as_slice()) {
            (b"done", []) => Self::Done,
            (b"bound", [mount_id, made @ ..]) => {
                let made = made.iter().map(|path| text(path).into()).collect();
                Self::Bound(BoundAs { mount_id: number(mount_id)?, made })
            }
            (b"refused", [message, cure @ ..]) => {
                Self::Refused { message: said(message), cure: cure.first().map(said) }
            }
            _ => return None,
        };
        Some((id, reply))
    }
}

/// A number, a word, and fields.
type Sent<'a> = (u64, &'a [u8], Vec<&'a [u8]>);

fn joined(id: u64, word: &str, fields: Vec<Vec<u8>>) -> Vec<u8> {
    let head = [id.to_string().into_bytes(), word.as_bytes().to_vec()];
    head.into_iter().chain(fields).collect::<Vec<_>>().join(&0)
}

fn split(sent: &[u8]) -> Option<Sent<'_>> {
    let mut fields = sent.split(|byte| *byte == 0);
    Some((number(fields.next()?)?, fields.next()?, fields.collect()))
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> OsString {
    OsStr::from_bytes(field).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nonsense_is_not() {
        let (name, at) = (OsString::from("a\nb.yaml"), PathBuf::from("/mnt/a b"));
        let requests = [
            Request::Clear { but: vec![] },
            Request::Clear { but: vec![1, 22] },
            Request::Mount { number: 3, name: name.clone() },
            Request::Bind { number: 3, name: name.clone(), at },
            Request::Unbind { name },
            Request::TakeAway { number: 3 },
            Request::Abort { connection: 77 },
        ];
        for request in requests {
            assert_eq!(Request::parse(&request.to_bytes(9)), Some((9, request)));
        }
        let replies = [
            Reply::Done,
            Reply::Bound(BoundAs { mount_id: 5, made: vec!["/a".into(), "/a/b".into()] }),
            Reply::Bound(BoundAs { mount_id: 5, made: vec![] }),
            Reply::Refused { message: "no".into(), cure: None },
            Reply::Refused { message: "no".into(), cure: Some("yes".into()) },
        ];
        for reply in replies {
            assert_eq!(Reply::parse(&reply.to_bytes(9)), Some((9, reply)));
        }
        assert_eq!(number_of(b"7\0sing\0a"), Some(7));
        for nonsense in [
            &b""[..],
            b"1",
            b"x\0take\x001",
            b"1\0take",
            b"1\0take\0x",
            b"1\0take\x001\x002",
            b"1\0bind\x001\0a",
            b"\xff",
        ] {
            assert_eq!((Request::parse(nonsense), Reply::parse(nonsense)), (None, None));
        }
    }
}
