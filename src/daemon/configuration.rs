//! The configuration of a mount, read anew.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::resolved::{Config, Origin, Overrides};
use crate::config::{self, ConfigError, Environment, Loaded};
use crate::control::ControlError;
use crate::store::is_momentary;
use crate::sync::Stamp;

/// The file of a configuration, if it came from one.
pub(super) fn config_file(origin: &Origin) -> Option<PathBuf> {
    match origin {
        Origin::File(path) | Origin::Values(path) => Some(path.clone()),
        Origin::CommandLine => None,
    }
}

/// A look at the file of a configuration; all looks at none are equal.
pub fn config_stamp(origin: &Origin) -> Stamp {
    Stamp::of(&config_file(origin).unwrap_or_default())
}

/// Whether the file of a configuration is there and cannot be read at the moment.
pub(super) fn is_unreadable_now(origin: &Origin) -> bool {
    let read = config_file(origin).map(|file| File::open(file)?.read(&mut [0]));
    read.is_some_and(|read| read.is_err_and(|error| is_momentary(&error)))
}

/// Reads it, and keeps what only a new mount can change. With it what the operator should know, and the file as it was read. `place` is the
/// mount point, where it is for us to say what may be there.
pub(super) fn reread(
    before: &Config,
    overrides: &Overrides,
    place: Option<&Path>,
) -> Result<(Config, Vec<String>, Vec<u8>), ControlError> {
    let environment = Environment::of_process();
    let loaded = match &before.origin {
        Origin::File(path) => config::load_file(path, &environment),
        Origin::Values(path) => config::load_values(path, &environment),
        Origin::CommandLine => {
            Ok(Loaded { config: before.clone(), warnings: Vec::new(), text: Vec::new() })
        }
    };
    let refused = |error: ConfigError| ControlError::Refused {
        message: error.to_string(),
        cure: Some("correct the configuration; the view stays as it is".to_owned()),
    };
    let Loaded { mut config, warnings, text } = loaded.map_err(refused)?;
    let file = config_file(&before.origin).map(|file| format!(" `{}`", file.display()));
    let is_file = before.origin != Origin::CommandLine;
    if is_file && text.iter().all(u8::is_ascii_whitespace) {
        let place = file.unwrap_or_default();
        return Err(ControlError::Refused {
            message: format!("the configuration{place} is empty: it may be about to be written"),
            cure: Some("for an empty view write `overlays: {sources: []}`".to_owned()),
        });
    }
    overrides.apply(&mut config);
    // It would be looked for in the view that it is a part of.
    let problems =
        place.map(|place| config::check_real_mountpoint(&config, place)).unwrap_or_default();
    if !problems.is_empty() {
        return Err(refused(ConfigError { problems }));
    }
    let mut said: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let config = keep_mounted(before, config, &mut said);
    Ok((config, said, text))
}

/// A new configuration with those settings of the old one that only a new mount can change.
pub(super) fn keep_mounted(before: &Config, mut config: Config, said: &mut Vec<String>) -> Config {
    let (old, new) = (&before.mount, &mut config.mount);
    let mut keep = |name: &str, differs: bool| {
        if differs {
            said.push(format!("`mount.{name}` takes effect with the next mount"));
        }
    };
    keep("at", old.named_at != new.named_at);
    keep("links", old.links != new.links);
    keep("xattrs", old.has_xattrs != new.has_xattrs);
    keep("allowOther", old.allow_other != new.allow_other);
    keep("uid", old.uid != new.uid);
    keep("gid", old.gid != new.gid);
    if before.state != config.state {
        said.push("`state` takes effect with the next mount".to_owned());
        config.state.clone_from(&before.state);
    }
    let new = &mut config.mount;
    new.at.clone_from(&old.at);
    new.named_at.clone_from(&old.named_at);
    new.links = old.links;
    new.has_xattrs = old.has_xattrs;
    (new.allow_other, new.uid, new.gid) = (old.allow_other, old.uid, old.gid);
    config
}
