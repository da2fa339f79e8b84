//! The grammar of mount(8)'s helpers: `mount.overlayfs-mount SOURCE MOUNTPOINT -o OPTIONS`.
//!
//! mount(8) runs `/sbin/mount.TYPE` for `-t TYPE`, and through `mount.fuse` the program itself for `-t fuse.TYPE`, with two
//! positional arguments first. Exit codes are mount(8)'s: 1 usage, 2 system, 32 failed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use super::cli::{ConfigArgs, LogFormat};
use super::failure::{Failure, USAGE};
use super::mount::{self, MountArgs};
use super::mount_options::words;

/// mount(8): incorrect invocation.
const HELPER_USAGE: u8 = 1;
/// mount(8): mount failure.
const HELPER_FAILED: u8 = 32;

/// What a helper was asked to do.
#[derive(Debug)]
pub(super) enum Helper {
    /// To mount.
    Mount(Box<MountArgs>),
    /// To say only that it would (`-f`, "fake").
    Fake,
    /// Something that a helper does not understand.
    Wrong(String),
}

/// Recognizes a call in the helpers' grammar: by the name of the program, or by two leading arguments that are no subcommand.
pub(super) fn recognize(arguments: &[OsString]) -> Option<Helper> {
    let program = Path::new(arguments.first()?).file_name()?.as_bytes();
    let is_helper = program.starts_with(b"mount.") || program.starts_with(b"fuse.");
    let rest = arguments.get(1..)?;
    let looks_like_one = match rest {
        [source, mountpoint, flag, ..] => {
            flag == "-o" && !is_flag(source) && !is_flag(mountpoint) && looks_like_source(source)
        }
        [source, mountpoint] => {
            !is_flag(source) && !is_flag(mountpoint) && looks_like_source(source)
        }
        _ => false,
    };
    (is_helper || looks_like_one).then(|| parse(rest))
}

fn is_flag(argument: &OsStr) -> bool {
    argument.as_bytes().starts_with(b"-")
}

/// A file name or a source with a slash in it: no subcommand has one.
fn looks_like_source(argument: &OsStr) -> bool {
    argument.as_bytes().contains(&b'/')
}

fn parse(rest: &[OsString]) -> Helper {
    let mut positional = Vec::new();
    let mut options = Vec::new();
    let mut is_fake = false;
    let mut arguments = rest.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_bytes() {
            b"-o" => match arguments.next().map(|list| list.to_str()) {
                Some(Some(list)) => options.extend(words(&[list.to_owned()]).map(str::to_owned)),
                Some(None) => return Helper::Wrong("the options are not UTF-8".into()),
                None => return Helper::Wrong("`-o` needs options after it".into()),
            },
            b"-f" => is_fake = true,
            b"-n" | b"-v" | b"-s" | b"-r" | b"-w" => {}
            b"-t" => drop(arguments.next()),
            other if other.starts_with(b"-") => {
                return Helper::Wrong(format!("`{}` is not known", argument.display()));
            }
            _ => positional.push(argument.clone()),
        }
    }
    let [source, mountpoint] = positional.as_slice() else {
        return Helper::Wrong(format!("{} arguments instead of 2", positional.len()));
    };
    if is_fake {
        return Helper::Fake;
    }
    Helper::Mount(Box::new(MountArgs {
        views: None,
        supervised: false,
        config: configuration(source, &mut options),
        mountpoint: Some(mountpoint.into()),
        fuse_fd: None,
        fuse_socket: None,
        foreground: false,
        sync: false,
        pin: false,
        metrics: None,
        options,
        log: None,
        log_format: LogFormat::Auto,
    }))
}

/// The source of a mount: a configuration file; with the option `values` a values file; a directory or `owner/repo` is a source.
fn configuration(source: &OsStr, options: &mut Vec<String>) -> ConfigArgs {
    let has_values = options.iter().any(|option| option == "values");
    options.retain(|option| option != "values");
    if has_values {
        return ConfigArgs { values: Some(source.into()), ..ConfigArgs::default() };
    }
    let is_spec =
        Path::new(source).is_dir() || (!Path::new(source).exists() && is_repository(source));
    match source.to_str() {
        Some(text) if is_spec => {
            ConfigArgs { sources: vec![text.to_owned()], ..ConfigArgs::default() }
        }
        Some(_) | None => ConfigArgs { config: Some(source.into()), ..ConfigArgs::default() },
    }
}

fn is_repository(source: &OsStr) -> bool {
    let bytes = source.as_bytes();
    let has_one_slash = bytes.split(|byte| *byte == b'/').count() == 2;
    let is_file_name = bytes.ends_with(b".yaml") || bytes.ends_with(b".yml");
    has_one_slash && !bytes.starts_with(b"/") && !bytes.starts_with(b".") && !is_file_name
}

/// Does what the helper was asked, with mount(8)'s exit codes.
pub(super) fn run(helper: Helper) -> ExitCode {
    let arguments = match helper {
        Helper::Fake => return ExitCode::SUCCESS,
        Helper::Wrong(what) => {
            Failure::usage(format!("called as a mount helper: {what}"))
                .with_cure("call it as `overlayfs-mount SOURCE MOUNTPOINT [-o OPTIONS]`")
                .report();
            return ExitCode::from(HELPER_USAGE);
        }
        Helper::Mount(arguments) => arguments,
    };
    match mount::run(&arguments) {
        Ok(code) if code == ExitCode::SUCCESS => code,
        Ok(_) => ExitCode::from(HELPER_FAILED),
        Err(failure) => {
            failure.report();
            ExitCode::from(if failure.status == USAGE { HELPER_USAGE } else { HELPER_FAILED })
        }
    }
}
