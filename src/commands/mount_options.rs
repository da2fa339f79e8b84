//! The mount options of `-o`, as mount(8) gives them.

use std::path::PathBuf;

use super::failure::Failure;
use crate::config::resolved::{Access, AllowOther, Links, Overrides};
use crate::control::http::Address;
use crate::machine::labels::{Labelled, Labels};

/// What `-o` says beyond the configuration.
#[derive(Default)]
pub(super) struct Options {
    pub(super) overrides: Overrides,
    pub(super) forbids_execution: bool,
    pub(super) is_pinned: bool,
    pub(super) log: Option<PathBuf>,
    pub(super) has_passthrough: bool,
    pub(super) metrics: Option<Address>,
    pub(super) labels: Labels,
}

/// The help for `-o`. The list behind the colon is for messages too.
pub(super) const HELP: &str = "Mount options, as mount(8) gives them: allow_other, noexec, uid=N, gid=N, links=all|inside, xattrs, nosources, pin, \
                               supervised, passthrough, access=all|public|none, context=CONTEXT, fscontext=CONTEXT, rootcontext=CONTEXT, metrics=ADDR, or log=FILE";

/// How a context is written, for messages.
const EXAMPLE: &str = "-o 'context=\"system_u:object_r:container_file_t:s0:c1,c2\"'";

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
    /// Reads all `-o`, in order: a later one counts.
    ///
    /// # Errors
    /// One of them is unknown, or its value is wrong.
    pub(super) fn parse(lists: &[String]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for word in words(lists) {
            options.add(word)?;
        }
        Ok(options)
    }

    /// Fails if a mount that another process has made is to have labels.
    pub(super) fn expect_no_labels(&self) -> Result<(), Failure> {
        let Some((option, _)) = self.labels.all().next() else { return Ok(()) };
        let message = format!("mount option `{option}`: this mount is made by another process");
        Err(Failure::usage(message)
            .with_cure("give it to who mounts, as `overlayfs-mount pass --context CONTEXT`"))
    }

    fn add(&mut self, option: &str) -> Result<(), Failure> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let is_ignored = IGNORED.contains(&name) || name.starts_with("x-") || name == "comment";
        if is_ignored || name.is_empty() {
            return Ok(());
        }
        if let Some(labelled) = Labelled::of(name) {
            let wrong = |why: String| wrong_context(option, &why);
            self.labels.set(labelled, value.parse().map_err(wrong)?);
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
            ("defcontext", _) => return Err(no_default_context()),
            ("log", value) if !unquoted(value).is_empty() => {
                self.log = Some(unquoted(value).into());
            }
            ("metrics", value) => self.metrics = Some(value.parse().map_err(Failure::usage)?),
            _ => return Err(unknown(option)),
        }
        Ok(())
    }
}

/// The options in the lists of all `-o`. A comma in double quotes is part of its option, as mount(8) has it.
pub(super) fn words(lists: &[String]) -> impl Iterator<Item = &str> {
    lists.iter().flat_map(|list| {
        let mut is_quoted = false;
        list.split(move |sign| {
            is_quoted ^= sign == '"';
            sign == ',' && !is_quoted
        })
    })
}

/// A value without the double quotes that keep its commas.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn number(name: &str, value: &str) -> Result<u32, Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("mount option `{name}={value}`: `{value}` {why}"))
            .with_cure(format!("give a numeric id, as `-o {name}=1000`"))
    };
    match value.parse() {
        // chown(2) leaves the owner as it is for it.
        Ok(u32::MAX) => Err(wrong("is no id, but the number for none")),
        Ok(id) => Ok(id),
        Err(_) => Err(wrong("is not a number")),
    }
}

fn wrong_context(option: &str, why: &str) -> Failure {
    Failure::usage(format!("mount option `{option}`: {why}"))
        .with_cure(format!("give user, role, type and level, as `{EXAMPLE}`"))
}

/// Files of a view have no labels of their own that a default could stand for.
fn no_default_context() -> Failure {
    Failure::usage("mount option `defcontext` means nothing for a FUSE mount, whose files have no labels of their own")
        .with_cure(format!("give the mount one label, as `{EXAMPLE}`"))
}

fn unknown(option: &str) -> Failure {
    let is_category = option
        .strip_prefix('c')
        .is_some_and(|rest| rest.starts_with(|sign: char| sign.is_ascii_digit()));
    if is_category {
        return Failure::usage(format!("mount option `{option}` is not known")).with_cure(format!(
            "a context with a comma needs double quotes that the shell leaves there: {EXAMPLE}"
        ));
    }
    Failure::usage(format!("mount option `{option}` is not known"))
        .with_cure(format!("use {}", known()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_means_no_change_is_no_owner() {
        for name in ["uid", "gid"] {
            let said = Options::parse(&[format!("{name}=4294967295")]).err().unwrap();
            assert!(
                said.text().contains("is no id, but the number for none\n  cure: give"),
                "{}",
                said.text()
            );
            assert!(Options::parse(&[format!("{name}=4294967294")]).is_ok());
        }
    }

    fn labels(list: &str) -> Result<String, String> {
        let options = Options::parse(&[list.to_owned()]);
        options.map(|options| options.labels.to_string()).map_err(|failure| {
            format!("{} / {}", failure.message(), failure.cure().unwrap_or_default())
        })
    }

    #[test]
    fn s140_a_comma_in_double_quotes_is_part_of_its_context() {
        let context = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
        assert_eq!(labels(&format!("ro,{context},noexec")).as_deref(), Ok(context));
        assert_eq!(labels("rootcontext=u:r:t:s0").as_deref(), Ok("rootcontext=\"u:r:t:s0\""));
        let options = Options::parse(&[format!("{context},noexec"), "xattrs".to_owned()]).unwrap();
        assert!(options.forbids_execution && options.overrides.has_xattrs == Some(true));
        let lists = ["a,b=\"c,d\",,e".to_owned(), "f".to_owned()];
        assert_eq!(words(&lists).collect::<Vec<_>>(), ["a", "b=\"c,d\"", "", "e", "f"]);
    }

    #[test]
    fn a_log_with_a_comma_in_its_name_is_written_in_quotes() {
        for (list, file) in [("log=\"/a,b\",noexec", "/a,b"), ("log=/a", "/a")] {
            let options = Options::parse(&[list.to_owned()]).unwrap();
            assert_eq!(options.log.as_deref(), Some(std::path::Path::new(file)), "{list}");
        }
        assert!(Options::parse(&["log=\"\"".to_owned()]).is_err());
    }

    #[test]
    fn a_context_that_cannot_be_one_is_refused_with_its_cure() {
        for (list, why, cure) in [
            // As it comes where the shell has taken the quotes.
            ("context=u:r:t:s0:c1,c2", "`c2` is not known", "double quotes that the shell leaves"),
            ("context=\"u:r:t:s0,noexec", "has no end", "-o 'context="),
            ("context=container_file_t", "is no context", "-o 'context="),
            ("context", "is no context", "-o 'context="),
            ("defcontext=u:r:t:s0", "means nothing for a FUSE mount", "-o 'context="),
        ] {
            let said = labels(list).unwrap_err();
            assert!(said.contains(why) && said.contains(cure), "{list}: {said}");
        }
    }

    #[test]
    fn every_option_that_the_help_names_is_known() {
        for words in known().split(',') {
            let word = words.trim().trim_start_matches("or ");
            let (name, values) = word.split_once('=').unwrap_or((word, ""));
            let values = values.replace("CONTEXT", "u:r:t:s0").replace('N', "1");
            for value in values.replace("ADDR", "9100").split('|') {
                let option = if value.is_empty() { name.into() } else { format!("{name}={value}") };
                assert!(Options::parse(&[option]).is_ok(), "{word}");
            }
        }
    }
}
