//! The mount options of `-o`, as mount(8) gives them.

use std::path::PathBuf;

use super::failure::Failure;
use crate::config::resolved::{Access, AllowOther, Links, Overrides};
use crate::control::http::Address;

/// What `-o` says beyond the configuration.
#[derive(Default)]
pub(super) struct Options {
    pub(super) overrides: Overrides,
    pub(super) forbids_execution: bool,
    pub(super) is_pinned: bool,
    pub(super) log: Option<PathBuf>,
    pub(super) has_passthrough: bool,
    pub(super) metrics: Option<Address>,
}

/// The help for `-o`. The list behind the colon is for messages too.
pub(super) const HELP: &str = "Mount options, as mount(8) gives them: allow_other, noexec, uid=N, gid=N, links=all|inside, xattrs, nosources, pin, \
                               supervised, passthrough, access=all|public|none, metrics=ADDR, or log=FILE";

/// All mount options, as a list for people.
fn known() -> &'static str {
    HELP.split_once(": ").map_or(HELP, |(_, known)| known)
}

/// What mount(8), fstab and systemd give to every helper and what means nothing here, or is so anyway.
const IGNORED: [&str; 36] = [
    "ro",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "defaults",
    "relatime",
    "noatime",
    "default_permissions",
    "nousers",
    "async",
    "sync",
    "dirsync",
    "atime",
    "diratime",
    "nodiratime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "nomand",
    "silent",
    "loud",
];

impl Options {
    /// Reads the words of all `-o`, in order: a later one counts.
    ///
    /// # Errors
    /// One of them is unknown, or its value is wrong.
    pub(super) fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words {
            options.add(word)?;
        }
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), Failure> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let is_ignored = IGNORED.contains(&name) || name.starts_with("x-") || name == "comment";
        if is_ignored || name.is_empty() {
            return Ok(());
        }
        let overrides = &mut self.overrides;
        match (name, value) {
            ("allow_other", "") => overrides.allow_other = Some(AllowOther::Yes),
            ("uid", value) => overrides.uid = Some(number(name, value)?),
            ("gid", value) => overrides.gid = Some(number(name, value)?),
            ("links", "all") => overrides.links = Some(Links::All),
            ("links", "inside") => overrides.links = Some(Links::Inside),
            ("xattrs", "") => overrides.has_xattrs = Some(true),
            ("noexec", "") => self.forbids_execution = true,
            ("exec", "") => self.forbids_execution = false,
            ("pin", "") => self.is_pinned = true,
            // Looked for where it matters.
            ("supervised", "") => {}
            ("passthrough", "") => self.has_passthrough = true,
            ("nosources", "") => overrides.shows_sources = Some(false),
            ("access", "all") => overrides.access = Some(Access::All),
            ("access", "public") => overrides.access = Some(Access::Public),
            ("access", "none") => overrides.access = Some(Access::None),
            ("log", value) if !value.is_empty() => self.log = Some(value.into()),
            ("metrics", value) => self.metrics = Some(value.parse().map_err(Failure::usage)?),
            _ => return Err(unknown(option)),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u32, Failure> {
    value.parse().map_err(|_| {
        Failure::usage(format!("mount option `{name}={value}`: `{value}` is not a number"))
            .with_cure(format!("give a numeric id, as `-o {name}=1000`"))
    })
}

fn unknown(option: &str) -> Failure {
    Failure::usage(format!("mount option `{option}` is not known"))
        .with_cure(format!("use {}", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_that_the_help_names_is_known() {
        for words in known().split(',') {
            let word = words.trim().trim_start_matches("or ");
            let (name, values) = word.split_once('=').unwrap_or((word, ""));
            for value in values.replace('N', "1").replace("ADDR", "9100").split('|') {
                let option = if value.is_empty() { name.into() } else { format!("{name}={value}") };
                assert!(Options::parse(&[option]).is_ok(), "{word}");
            }
        }
    }
}
