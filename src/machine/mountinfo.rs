//! The mounts of this process's name space, as `/proc/self/mountinfo` has them (`proc_pid_mountinfo(5)`).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Components, Path, PathBuf};

use super::{FS_TYPE, MachineError};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, which may be given out again after it is gone.
    pub id: u64,
    /// The number of the mount that it is on.
    pub parent: u64,
    /// The major number of its device; 0 for FUSE.
    pub major: u32,
    /// The minor number of its device; for FUSE the number of the connection.
    pub minor: u32,
    /// The directory of the file system that is mounted: `/`, or another one for a bind mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The options of this mount, separated by commas.
    pub options: OsString,
    /// Its propagation, each word as the kernel has it: `shared:1`, `master:2`; none for a private mount.
    pub propagation: Vec<OsString>,
    /// The type of the file system.
    pub fs_type: OsString,
    /// The source: for our mounts what the view was made from.
    pub source: OsString,
}

impl Mount {
    /// Whether it is a view of ours.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// What of the view is mounted, as a path from its root, of a mount of ours: nothing where that is all of it. Of a superblock with
    /// several views each is a directory, with the name of its file in the directory of views.
    pub fn part(&self) -> PathBuf {
        let mut names = self.names();
        if self.is_of_many() {
            names.next();
        }
        names.as_path().to_owned()
    }

    /// Whether it is a mount of ours of one of many views, or of a part of one.
    pub fn is_of_many(&self) -> bool {
        let Some(Component::Normal(first)) = self.names().next() else { return false };
        let ending = Path::new(first).extension();
        let is_file = ending.is_some_and(|ending| ending == "yaml" || ending == "yml");
        self.is_ours() && is_file && Path::new(&self.source).is_dir()
    }

    fn names(&self) -> Components<'_> {
        self.root.strip_prefix("/").unwrap_or(Path::new("")).components()
    }
}

/// All mounts of a name space, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Reads the mounts of this process's name space.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn read() -> Result<Self, MachineError> {
        let text =
            fs::read(MOUNTINFO).map_err(|error| MachineError::Proc { path: MOUNTINFO, error })?;
        Ok(Self::parse(&text))
    }

    /// Takes the text of a `mountinfo` file; a line that is none is left out.
    pub fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|&byte| byte == b'\n').filter_map(parse_line).collect() }
    }

    /// All mounts.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// All mounts at exactly this path, those covered by others included.
    pub fn at<'a, 'p>(&'a self, path: &'p Path) -> impl Iterator<Item = &'a Mount> + use<'a, 'p> {
        self.mounts.iter().filter(move |mount| mount.mountpoint == path)
    }

    /// The mount at exactly this path that is not covered by another one there.
    pub fn topmost_at(&self, path: &Path) -> Option<&Mount> {
        let is_covered = |lower: &Mount| self.at(path).any(|upper| upper.parent == lower.id);
        self.at(path).filter(|mount| !is_covered(mount)).last()
    }

    /// The mount on which an absolute path without links lies.
    pub fn find(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|ancestor| self.topmost_at(ancestor))
    }

    /// The views of ours.
    pub fn ours(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter(|mount| mount.is_ours())
    }

    /// Other mounts of the same file system that stay when `of` is unmounted: bind mounts of it or of a part of it. What the kernel has put
    /// elsewhere by propagation goes with it.
    pub fn copies<'a>(&'a self, of: &'a Mount) -> impl Iterator<Item = &'a Mount> {
        self.mounts.iter().filter(move |mount| {
            (mount.major, mount.minor) == (of.major, of.minor)
                && mount.id != of.id
                && !self.goes_with(mount, of)
        })
    }

    /// Whether a mount stands where the unmounting of another one is propagated to.
    fn goes_with(&self, mount: &Mount, unmounted: &Mount) -> bool {
        let parent = |of: &Mount| self.mounts.iter().find(|parent| parent.id == of.parent);
        let (Some(to), Some(from)) = (parent(mount), parent(unmounted)) else { return false };
        let mut groups = from.propagation.iter().filter_map(|word| group(word, b"shared:"));
        to.id != from.id
            && groups.any(|sent| {
                let received = |word| group(word, b"shared:").or_else(|| group(word, b"master:"));
                to.propagation.iter().filter_map(received).any(|group| group == sent)
            })
    }

    /// The mounts that are mounted on something inside `below`.
    pub fn children<'a>(&'a self, below: &'a Mount) -> impl Iterator<Item = &'a Mount> {
        self.mounts.iter().filter(move |mount| mount.parent == below.id && mount.id != below.id)
    }
}

/// The number of the group of a word of propagation that begins so.
fn group<'a>(word: &'a OsString, kind: &[u8]) -> Option<&'a [u8]> {
    word.as_bytes().strip_prefix(kind)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = PathBuf::from(unescape(fields.next()?));
    let mountpoint = PathBuf::from(unescape(fields.next()?));
    let options = unescape(fields.next()?);
    let propagation = fields.by_ref().take_while(|field| *field != b"-").map(to_owned).collect();
    let fs_type = unescape(fields.next()?);
    let source = unescape(fields.next()?);
    Some(Mount {
        id,
        parent,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root,
        mountpoint,
        options,
        propagation,
        fs_type,
        source,
    })
}

fn to_owned(field: &[u8]) -> OsString {
    OsStr::from_bytes(field).to_owned()
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's escapes: a backslash and three octal digits for a byte.
fn unescape(field: &[u8]) -> OsString {
    if !field.contains(&b'\\') {
        return to_owned(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match octal(tail) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    digits
        .iter()
        .try_fold(0_u16, |value, digit| match digit {
            b'0'..=b'7' => Some(value * 8 + u16::from(digit - b'0')),
            _ => None,
        })
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        22 21 0:5 / /proc rw,nosuid - proc proc rw\n\
        40 21 0:44 / /mnt/with\\040blank\\134x\\012y ro,nosuid,nodev shared:7 master:3 - fuse.overlayfs-mount /etc/a\\040b.yaml ro,user_id=0\n\
        41 40 0:45 / /mnt/with\\040blank\\134x\\012y ro - fuse.overlayfs-mount \xff ro\n\
        broken line\n\
        50 21 0:46 /sub /mnt/other ro - tmpfs  rw\n";

    #[test]
    fn a_line_gives_all_its_fields_unescaped() {
        let table = MountTable::parse(TEXT);
        assert_eq!(table.mounts().len(), 5);
        let mount = &table.mounts()[2];
        assert_eq!((mount.id, mount.parent, mount.major, mount.minor), (40, 21, 0, 44));
        assert_eq!(mount.mountpoint, Path::new("/mnt/with blank\\x\ny"));
        assert_eq!(mount.propagation, ["shared:7", "master:3"]);
        assert_eq!(mount.source, "/etc/a b.yaml");
        assert!(mount.is_ours());
        assert_eq!(table.mounts()[3].source.as_bytes(), b"\xff");
        assert!(table.mounts()[3].propagation.is_empty());
    }

    #[test]
    fn the_topmost_of_a_stack_is_found_and_so_is_the_mount_of_a_path() {
        let table = MountTable::parse(TEXT);
        let path = Path::new("/mnt/with blank\\x\ny");
        assert_eq!(table.topmost_at(path).map(|mount| mount.id), Some(41));
        assert_eq!(table.find(&path.join("a/b")).map(|mount| mount.id), Some(41));
        assert_eq!(table.find(Path::new("/mnt/with")).map(|mount| mount.id), Some(21));
        assert_eq!(table.ours().count(), 2);
        assert_eq!(table.children(&table.mounts()[2]).map(|mount| mount.id).next(), Some(41));
    }

    #[test]
    fn the_kernels_own_file_is_read() {
        let table = MountTable::read().unwrap();
        assert!(table.find(Path::new("/proc/self")).is_some_and(|mount| mount.fs_type == "proc"));
    }

    #[test]
    fn a_backslash_that_is_no_escape_stays() {
        assert_eq!(unescape(b"a\\9b\\04"), "a\\9b\\04");
        assert_eq!(unescape(b"\\777"), "\\777");
    }

    #[test]
    fn bind_mounts_stay_and_what_was_propagated_goes() {
        let table = MountTable::parse(
            b"21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
              22 21 8:1 / /peer rw shared:1 - ext4 /dev/sda1 rw\n\
              23 21 8:1 / /slave rw master:1 - ext4 /dev/sda1 rw\n\
              24 21 8:1 / /private rw - ext4 /dev/sda1 rw\n\
              40 21 0:44 / /view ro shared:7 - fuse.overlayfs-mount a ro\n\
              41 22 0:44 / /peer/view ro shared:7 - fuse.overlayfs-mount a ro\n\
              42 23 0:44 / /slave/view ro master:7 - fuse.overlayfs-mount a ro\n\
              43 24 0:44 / /private/view ro - fuse.overlayfs-mount a ro\n\
              44 21 0:44 /part /bound ro shared:7 - fuse.overlayfs-mount a ro\n\
              45 21 0:45 / /other ro shared:8 - fuse.overlayfs-mount a ro\n",
        );
        let view = table.topmost_at(Path::new("/view")).unwrap();
        let copies: Vec<_> = table.copies(view).map(|copy| copy.id).collect();
        assert_eq!(copies, [43, 44]);
    }
}
