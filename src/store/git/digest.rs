//! Digests of names and places, short enough to be held by the thousand.

use sha2::{Digest, Sha256};

/// The first 16 bytes of the SHA-256 digest of these parts, one after the other.
pub(super) fn short_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}
