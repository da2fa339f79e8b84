//! The labels that `SELinux` is to give a mount: the options `context=` and its kin.
//!
//! The kernel's security module takes them out of the options of mount(2) before the file system sees them
//! (`selinux_sb_eat_lsm_opts`, security/selinux/hooks.c). What it takes is said before anything is mounted.

use std::fmt;
use std::str::FromStr;

use super::{MachineError, selinux, user};

/// The most bytes of one context: all options of mount(2) have to fit into a page.
const CONTEXT_MAX: usize = 1000;

/// A context of `SELinux`: `user:role:type`, with a level after it where the policy has levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityContext(String);

/// What is to be labelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// `context=`: the mount with every file on it.
    Everything,
    /// `fscontext=`: the file system itself.
    FileSystem,
    /// `rootcontext=`: the directory at the top.
    Root,
}

/// The labels that a mount is to have in place of those that the policy gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(Labelled, SecurityContext)>);

impl Labelled {
    /// What an option of this name labels.
    pub fn of(option: &str) -> Option<Self> {
        [Self::Everything, Self::FileSystem, Self::Root]
            .into_iter()
            .find(|labelled| labelled.option() == option)
    }

    /// The name of the option.
    pub fn option(self) -> &'static str {
        match self {
            Self::Everything => "context",
            Self::FileSystem => "fscontext",
            Self::Root => "rootcontext",
        }
    }
}

impl FromStr for SecurityContext {
    type Err = String;

    /// Reads a context, in double quotes or without.
    ///
    /// ```
    /// use overlayfs_mount::machine::labels::SecurityContext;
    ///
    /// assert!("\"system_u:object_r:container_file_t:s0:c1,c2\"".parse::<SecurityContext>().is_ok());
    /// assert!("container_file_t".parse::<SecurityContext>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = text.strip_prefix('"').map_or(Some(text), |rest| rest.strip_suffix('"'));
        let inner = inner.ok_or_else(|| format!("the quote of `{text}` has no end"))?;
        // What else the kernel would read as a second option, or not at all.
        if let Some(bad) = inner.chars().find(|c| !c.is_ascii_graphic() || "\"\\".contains(*c)) {
            return Err(format!("`{}` cannot be in a context", bad.escape_default()));
        }
        if inner.len() > CONTEXT_MAX {
            return Err(format!("it has more than {CONTEXT_MAX} bytes"));
        }
        let has_parts = inner.split(':').take(3).filter(|part| !part.is_empty()).count() == 3;
        if has_parts { Ok(Self(inner.to_owned())) } else { Err(format!("`{inner}` is no context")) }
    }
}

impl fmt::Display for SecurityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Labels {
    /// Adds one; a later one counts.
    pub fn set(&mut self, labelled: Labelled, context: SecurityContext) {
        self.0.retain(|(earlier, _)| *earlier != labelled);
        self.0.push((labelled, context));
    }

    /// Whether the policy's stay.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with the name of its option.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &SecurityContext)> {
        self.0.iter().map(|(labelled, context)| (labelled.option(), context))
    }

    /// Fails where nothing that this process mounts could have them.
    ///
    /// # Errors
    /// The kernel has no `SELinux`, or this process may not label a mount.
    pub fn check(&self) -> Result<(), MachineError> {
        let Some((option, _)) = self.all().next() else { return Ok(()) };
        let lack = |lack| Err(MachineError::Label { option, lack });
        if !selinux::is_enabled() {
            return lack(Lack::Module);
        }
        // By fusermount3, which takes no such option, or in a user name space, where the kernel takes none for FUSE.
        if !(user::has_sys_admin() && user::is_in_first_namespace()) {
            return lack(Lack::Privilege);
        }
        Ok(())
    }
}

/// As mount(2) takes them; the kernel takes the quotes away.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (option, context)) in self.all().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{option}=\"{context}\"")?;
        }
        Ok(())
    }
}

/// What labels need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A kernel with `SELinux`, that is on.
    Module,
    /// `CAP_SYS_ADMIN` in the first user name space.
    Privilege,
}

impl Lack {
    /// What is lacking.
    pub fn text(self) -> &'static str {
        match self {
            Self::Module => "SELinux is not enabled in this kernel",
            Self::Privilege => {
                "only root outside of user name spaces may label a mount: `fusermount3` takes no such option, and for a mount in a user \
                 name space the kernel takes none"
            }
        }
    }

    /// What helps.
    pub fn cure(self, option: &str) -> String {
        match self {
            Self::Module => format!(
                "leave out `-o {option}=`, or start the kernel with `security=selinux selinux=1` and a policy"
            ),
            Self::Privilege => format!("mount as root, or leave out `-o {option}=`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_checked_before_the_kernel_sees_it() {
        let read = |text: &str| text.parse::<SecurityContext>().map(|context| context.to_string());
        let good = "system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(read(good).as_deref(), Ok(good));
        assert_eq!(read(&format!("\"{good}\"")).as_deref(), Ok(good));
        assert_eq!(read("u:r:t").as_deref(), Ok("u:r:t"));
        for (bad, why) in [
            ("", "is no context"),
            ("container_file_t", "is no context"),
            ("u::t", "is no context"),
            ("\"u:r:t", "has no end"),
            ("u:r:t\",allow_other", "`\\\"` cannot be"),
            ("u:r:t s0", "` ` cannot be"),
            ("u:r:t\u{e9}", "cannot be"),
            ("u:r:t\n", "`\\n` cannot be"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
        assert!(read(&format!("u:r:{}", "t".repeat(CONTEXT_MAX))).is_err());
    }

    #[test]
    fn labels_are_written_as_mount_takes_them_and_a_later_one_counts() {
        let mut labels = Labels::default();
        assert!(labels.is_empty() && labels.check().is_ok() && labels.to_string().is_empty());
        labels.set(Labelled::Everything, "u:r:old:s0".parse().unwrap());
        labels.set(Labelled::Root, "u:r:root:s0".parse().unwrap());
        labels.set(Labelled::Everything, "u:r:t:s0:c1,c2".parse().unwrap());
        assert_eq!(labels.to_string(), "rootcontext=\"u:r:root:s0\",context=\"u:r:t:s0:c1,c2\"");
    }

    #[test]
    fn names_of_options_are_read_back() {
        for option in ["context", "fscontext", "rootcontext"] {
            assert_eq!(Labelled::of(option).map(Labelled::option), Some(option));
        }
        assert_eq!(Labelled::of("defcontext"), None);
    }
}
