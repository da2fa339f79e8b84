//! Names, paths and digests in a record: as text where they are text, else in hexadecimal digits.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::union::hex;
use crate::union::name::{Name, RelPath};

/// Bytes, mostly of names and paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenBytes {
    Text(String),
    Hex { hex: String },
}

impl Bytes {
    pub(super) fn of(path: &RelPath) -> Self {
        Self(path.to_bytes())
    }

    pub(super) fn of_name(name: &Name) -> Self {
        Self(name.as_bytes().to_vec())
    }

    pub(super) fn of_os(text: &OsStr) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// The path on this machine that they are.
    pub(super) fn os_path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.0))
    }

    /// The path in a source or a view that they are, if they are one; no bytes are the root.
    pub(super) fn path(&self) -> Option<RelPath> {
        if self.0.is_empty() { Some(RelPath::root()) } else { RelPath::parse(&self.0).ok() }
    }

    /// The name that they are, if they are one.
    pub(super) fn name(&self) -> Option<Name> {
        Name::new(&self.0).ok()
    }

    /// The array that they are, if they have its length.
    pub(super) fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.0.as_slice().try_into().ok()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match std::str::from_utf8(&self.0) {
            Ok(text) => WrittenBytes::Text(text.to_owned()),
            Err(_) => WrittenBytes::Hex { hex: hex::Hex(&self.0).to_string() },
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || serde::de::Error::custom("not pairs of hexadecimal digits");
        match WrittenBytes::deserialize(deserializer)? {
            WrittenBytes::Text(text) => Ok(Self(text.into_bytes())),
            WrittenBytes::Hex { hex } if hex.is_ascii() && hex.len() % 2 == 0 => {
                let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
                let bytes =
                    pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>();
                bytes.map(Self).map_err(|_| wrong())
            }
            WrittenBytes::Hex { .. } => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were_written() {
        for bytes in [b"".to_vec(), b"tools/slack".to_vec(), vec![0xff, 0, b'a'], "ü\n".into()] {
            let text = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap().0, bytes, "{text}");
        }
        for bad in [r#"{"hex":"0"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"ü"}"#, "1"] {
            assert!(serde_json::from_str::<Bytes>(bad).is_err(), "{bad}");
        }
    }
}
