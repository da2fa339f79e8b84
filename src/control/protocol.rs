//! The words on the wire: one line of JSON each way.
//!
//! `{"command":"status"}`, `{"command":"reload"}`, `{"command":"explain","path":"tools/slack"}`; a path that is no text is an array of
//! its bytes. The answer is `{"ok":…}` or `{"error":{"message":…,"cure":…}}`.

use serde::{Deserialize, Serialize};

/// The longest request, in bytes: a path of 4,096 bytes, each written as a number, has room.
pub const REQUEST_MAX: u64 = 64 * 1024;
/// The longest answer, in bytes.
pub const REPLY_MAX: u64 = 64 * 1024 * 1024;

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum ControlRequest {
    /// What the daemon shows, and how its sources are.
    Status,
    /// Reading configuration and refs anew.
    Reload,
    /// Having the program that is on disk now take over.
    Upgrade,
    /// Why a path of the view shows what it shows.
    Explain {
        /// The path, relative to the root of the view.
        path: WirePath,
    },
}

/// A path: text where it is text, else its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WirePath {
    /// A path that is UTF-8.
    Text(String),
    /// Any other path.
    Bytes(Vec<u8>),
}

impl WirePath {
    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for WirePath {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlReply<T> {
    /// What was asked for.
    Ok(T),
    /// Why it was not done.
    Error(ControlRefusal),
}

/// Why a daemon did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRefusal {
    /// What failed, and where.
    pub message: String,
    /// What to do about it.
    pub cure: Option<String>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The revision set that every new look-up sees now.
    pub revision: String,
    /// The revision set before, if it was another one.
    pub previous: Option<String>,
    /// How many names of the view changed.
    pub changed: usize,
    /// The first of them, sorted.
    pub changes: Vec<ChangeReport>,
    /// What the operator should know, a sentence each: sources that stayed behind, settings that need a new mount.
    pub warnings: Vec<String>,
}

/// A name of the view that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// Where it is in the view, escaped.
    pub path: String,
    /// How it changed.
    pub change: ChangeKind,
}

/// How a name changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It was not there before.
    Appeared,
    /// It is not there any more.
    Vanished,
    /// It leads to something else.
    Changed,
}

/// At most so many changes are named in a report.
pub const CHANGES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_documented() {
        let explain = |path: &[u8]| ControlRequest::Explain { path: path.into() };
        for (request, text) in [
            (ControlRequest::Status, r#"{"command":"status"}"#),
            (ControlRequest::Reload, r#"{"command":"reload"}"#),
            (ControlRequest::Upgrade, r#"{"command":"upgrade"}"#),
            (explain(b"tools/x"), r#"{"command":"explain","path":"tools/x"}"#),
            (explain(b"a\xff"), r#"{"command":"explain","path":[97,255]}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<ControlRequest>(text).unwrap(), request);
        }
    }

    #[test]
    fn answers_are_written_as_documented() {
        assert_eq!(serde_json::to_string(&ControlReply::Ok(1)).unwrap(), r#"{"ok":1}"#);
        let refusal = ControlRefusal { message: "no".to_owned(), cure: None };
        assert_eq!(
            serde_json::to_string(&ControlReply::<()>::Error(refusal)).unwrap(),
            r#"{"error":{"message":"no","cure":null}}"#
        );
    }
}
