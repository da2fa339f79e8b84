//! What the tests of this room share.

use std::path::PathBuf;

use super::load::{Loaded, own_format, values_format};
use super::problem::ConfigError;
use super::report::Report;
use super::resolved::{Config, SourceSpec};
pub(super) use super::sample::environment;

/// The content of `/w/overlays.yaml`.
pub(super) fn own(text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
    let report = Report::new(Some("overlays.yaml".as_ref()));
    own_format(text.as_ref(), PathBuf::from("/w/overlays.yaml"), &environment("/w"), report)
}

/// The content of `/w/values.yaml`.
pub(super) fn values(text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
    let report = Report::new(Some("values.yaml".as_ref()));
    values_format(text.as_ref(), PathBuf::from("/w/values.yaml"), &environment("/w"), report)
}

/// All problems of a file in our own format, as printed.
pub(super) fn refusal(text: impl AsRef<[u8]>) -> String {
    match own(text) {
        Ok(loaded) => format!("accepted: {loaded:#?}"),
        Err(error) => error.to_string(),
    }
}

/// The configuration of a file that has no errors.
pub(super) fn config(text: &str) -> Config {
    match own(text) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

/// The warnings, as printed.
pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// Name, ref and sub-directories of each source, off as `-`.
pub(super) fn summary(sources: &[SourceSpec]) -> Vec<String> {
    let subdirs = |source: &SourceSpec| {
        let shown = source.subdirs.iter().map(|subdir| match subdir {
            Some(path) => path.to_string(),
            None => "-".to_owned(),
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    let line = |source: &SourceSpec| {
        let git_ref = source.git_ref.as_deref().unwrap_or("HEAD");
        format!("{}@{git_ref} {}: {}", source.name, source.visibility, subdirs(source))
    };
    sources.iter().map(line).collect()
}
