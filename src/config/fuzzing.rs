//! Any bytes as a configuration.

use super::sample::environment;
use super::{ConfigError, Loaded, load_text};
use crate::config::resolved::Origin;

/// Reads bytes as a file in our own format.
///
/// # Panics
/// What must hold of the answer does not.
pub fn configuration(bytes: &[u8]) {
    check(bytes, &load_text(&Origin::File("/w/overlays.yaml".into()), bytes, &environment("/w")));
}

/// Reads bytes as a values file of the platform.
///
/// # Panics
/// What must hold of the answer does not.
pub fn values(bytes: &[u8]) {
    check(bytes, &load_text(&Origin::Values("/w/values.yaml".into()), bytes, &environment("/w")));
}

/// Messages name a cure and hold no control characters but line ends; of a sound file every sub-directory stays in its source.
fn check(bytes: &[u8], outcome: &Result<Loaded, ConfigError>) {
    match outcome {
        Ok(loaded) => {
            assert_eq!(loaded.text, bytes);
            for warning in &loaded.warnings {
                assert_plain(&warning.to_string());
            }
            let subdirs = loaded.config.sources.iter().flat_map(|source| &source.subdirs);
            for path in subdirs.flatten().chain(loaded.config.surfaces.iter().map(|row| &row.at)) {
                let is_plain = |name: &[u8]| name != b".." && name != b"." && !name.contains(&b'/');
                assert!(path.names().iter().all(|name| is_plain(name.as_bytes())), "{path}");
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            let said = error.to_string();
            assert_plain(&said);
            assert!(said.contains("cure: "), "{said}");
        }
    }
}

fn assert_plain(said: &str) {
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
}
