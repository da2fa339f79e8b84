//! Digests over fields that cannot run into one another: each is preceded by its length.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::resolved::{Access, Config, Links, Mode, SourceSpec};
use crate::snapshot::Source;
use crate::union::name::RelPath;
use crate::union::object::{Kind, Object};
use crate::union::revision::{Revision, RevisionSetId};
use crate::union::surface::{EntryRule, Presence, Surface};

/// A digest while fields are put into it.
pub(super) struct Fields(Sha256);

impl Fields {
    /// Starts with what the digest is for, and its version.
    pub(super) fn new(tag: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.bytes(tag.as_bytes());
        fields
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    pub(super) fn optional(&mut self, bytes: Option<&[u8]>) {
        self.number(u64::from(bytes.is_some()));
        self.bytes(bytes.unwrap_or_default());
    }

    pub(super) fn path(&mut self, path: &RelPath) {
        self.bytes(&path.to_bytes());
    }

    fn optional_path(&mut self, path: Option<&RelPath>) {
        self.optional(path.map(RelPath::to_bytes).as_deref());
    }

    /// An object with all that tells it from others.
    pub(super) fn object(&mut self, object: &Object) {
        self.number(match object.kind() {
            Kind::Directory => 0,
            Kind::File { is_executable: false } => 1,
            Kind::File { is_executable: true } => 2,
            Kind::Link => 3,
        });
        match object {
            Object::Empty => self.number(0),
            Object::Frozen { oid, .. } => {
                self.number(1);
                self.bytes(oid.as_bytes());
            }
            Object::Live { file, .. } => {
                let identity = &file.identity;
                self.number(2);
                self.number(identity.device);
                self.number(identity.inode);
                self.bytes(&identity.born_nanos.to_be_bytes());
            }
        }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The id of a revision set: a digest of all that decides a name or a byte (S38).
pub(super) fn revision_set_id(
    config: &Config,
    sources: &[Arc<Source>],
    specs: &[&SourceSpec],
) -> RevisionSetId {
    let mut fields = Fields::new("overlayfs-mount revision set 1");
    fields.number(match config.access {
        Access::All => 0,
        Access::Public => 1,
        Access::None => 2,
    });
    fields.number(u64::from(config.mount.shows_sources));
    fields.number(u64::from(config.mount.shows_git));
    fields.number(match config.mount.links {
        Links::All => 0,
        Links::Inside => 1,
    });
    fields.number(config.surfaces.len() as u64);
    for surface in &config.surfaces {
        put_surface(&mut fields, surface);
    }
    fields.number(sources.len() as u64);
    for (source, spec) in sources.iter().zip(specs) {
        put_source(&mut fields, source, spec.mode);
    }
    RevisionSetId(fields.finish())
}

fn put_surface(fields: &mut Fields, surface: &Surface) {
    fields.bytes(surface.name.as_bytes());
    fields.path(&surface.at);
    fields.optional_path(surface.subdir.as_ref());
    match &surface.rule {
        EntryRule::Children => fields.number(0),
        EntryRule::Packages { marker, depth } => {
            fields.number(1);
            fields.bytes(marker.as_bytes());
            fields.number(u64::from(*depth));
        }
        EntryRule::Prompts => fields.number(2),
    }
    fields.number(match surface.presence {
        Presence::Always => 0,
        Presence::IfConfigured => 1,
        Presence::IfNotEmpty => 2,
    });
    fields.number(surface.never_shown.len() as u64);
    for name in &surface.never_shown {
        fields.bytes(name.as_bytes());
    }
}

fn put_source(fields: &mut Fields, source: &Source, mode: Mode) {
    fields.bytes(source.name.owner.as_bytes());
    fields.bytes(source.name.repo.as_bytes());
    match &source.revision {
        Revision::Commit(oid) => {
            fields.number(0);
            fields.bytes(oid.as_bytes());
        }
        Revision::Listing(digest) => {
            fields.number(1);
            fields.bytes(digest);
        }
        Revision::Missing => fields.number(2),
    }
    fields.number(match mode {
        Mode::Git => 0,
        Mode::Live => 1,
    });
    // What is shown of a commit is not all that it has then.
    if let Some(unread) = &source.unread {
        fields.number(3);
        fields.bytes(&unread.entries);
    }
    fields.optional(source.store.lfs_digest().as_ref().map(<[u8; 32]>::as_slice));
    fields.number(source.subdirs.len() as u64);
    for subdir in &source.subdirs {
        fields.optional_path(subdir.as_ref());
    }
}
