//! Objects of an open repository by their ids: asked of the library, compared with their ids, and asked for once more where that may help.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};

use gix::objs::Kind as GitKind;

use super::again::{SecondLook, momentary};
#[cfg(test)]
use super::bases::Bases;
use super::commit::{self, Commit};
use super::loose::{LooseFile, LoosePlace};
use super::repository::{Repository, words};
use crate::store::StoreError;
use crate::union::object::Oid;

/// Tags are followed through at most so many tags.
const TAGS_MAX: usize = 16;

/// So many handles of a repository stay for the next questions.
const IDLE_MAX: usize = 2;

impl Repository {
    /// The type and size of an object, without decoding it.
    pub(super) fn header(&self, oid: &Oid) -> Result<(GitKind, u64), StoreError> {
        self.ask(oid, LooseFile::header, |repository, id| {
            let header = repository.find_header(id)?;
            Ok((header.kind(), header.size()))
        })
    }

    /// The bytes of an object of this type.
    pub(super) fn object(&self, oid: &Oid, kind: GitKind) -> Result<Vec<u8>, StoreError> {
        let (found, bytes) = self.any_object(oid)?;
        expect_kind(oid, found, kind).map(|()| bytes)
    }

    fn any_object(&self, oid: &Oid) -> Result<(GitKind, Vec<u8>), StoreError> {
        match self.decoded(oid) {
            Ok(object) => Ok(object),
            Err(error) => match self.too_large(oid) {
                Some(reason) => Err(reason),
                // What was kept of another pack may have been taken for one of this.
                None if self.forget_bases() => self.decoded(oid),
                None => Err(error),
            },
        }
    }

    /// Why an object is not decoded in memory, if its size is the reason: the library says that there is no room.
    fn too_large(&self, oid: &Oid) -> Option<StoreError> {
        let limit_bytes = self.whole_bytes();
        let (_, size_bytes) = self.header(oid).ok()?;
        let oid = oid.to_string();
        (size_bytes > limit_bytes).then_some(StoreError::TooLarge { oid, size_bytes, limit_bytes })
    }

    /// Decodes without what is kept from now on. False if that changes nothing.
    fn forget_bases(&self) -> bool {
        let of_lender = self.lender().is_some_and(|lender| lender.bases.forget());
        self.bases.forget() || of_lender
    }

    #[cfg(test)]
    pub(super) fn bases(&self) -> &Bases {
        &self.bases
    }

    fn decoded(&self, oid: &Oid) -> Result<(GitKind, Vec<u8>), StoreError> {
        // The library was told how large an object may be when the repository was opened.
        let loose = |file: &LooseFile| {
            let (kind, bytes) = file.object()?;
            expect_id(oid, kind, &bytes).ok().map(|()| (kind, bytes))
        };
        let (kind, bytes) = self.ask(oid, loose, |repository, id| {
            let object = repository.find_object(id)?.detach();
            Ok((object.kind, object.data))
        })?;
        expect_id(oid, kind, &bytes).map(|()| (kind, bytes))
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// There is no such object, it is no commit, or it is malformed.
    pub fn commit(&self, oid: &Oid) -> Result<Commit, StoreError> {
        let bytes = self.object(oid, GitKind::Commit)?;
        Commit::decode(&bytes).ok_or_else(|| unreadable(oid, "it is a malformed commit"))
    }

    /// Follows tags until there is a commit.
    ///
    /// # Errors
    /// An object on the way cannot be read, or there is no commit at the end.
    pub fn peel(&self, oid: &Oid) -> Result<(Oid, Commit), StoreError> {
        let mut at = *oid;
        for _ in 0..TAGS_MAX {
            let (kind, bytes) = self.any_object(&at)?;
            match kind {
                GitKind::Tag => {
                    at = commit::tag_target(&bytes)
                        .ok_or_else(|| unreadable(&at, "it is a malformed tag"))?;
                }
                GitKind::Commit => {
                    let commit = Commit::decode(&bytes);
                    let commit = commit.ok_or_else(|| unreadable(&at, "it is a malformed commit"));
                    return Ok((at, commit?));
                }
                GitKind::Tree | GitKind::Blob => {
                    let (oid, kind) = (at.to_string(), kind.to_string());
                    return Err(StoreError::NotACommit { oid, kind });
                }
            }
        }
        Err(unreadable(oid, "it is a tag of a tag of a tag without end"))
    }

    /// Asks the library, which panics on some malformed objects. An object that is packed at this very moment can be
    /// missed once: its loose file is gone and the new pack not yet known.
    fn ask<T>(
        &self,
        oid: &Oid,
        loose: impl Fn(&LooseFile) -> Option<T>,
        question: impl Fn(&gix::Repository, gix::ObjectId) -> Result<T, gix::Error>,
    ) -> Result<T, StoreError> {
        let found = self.ask_here(oid, &loose, &question);
        if let Ok(Some(found)) = found {
            return Ok(found);
        }
        // Also where what is here is damaged, as a copy that was on its way to the disk when the power went.
        let lent = self.lender().map(|lender| lender.ask_here(oid, &loose, &question));
        match (found, lent) {
            (_, Some(Ok(Some(lent)))) => Ok(lent),
            (Err(error), _) | (Ok(_), Some(Err(error))) => Err(error),
            (Ok(_), _) => Err(unreadable(oid, "it is not in the repository")),
        }
    }

    fn handle(&self) -> gix::Repository {
        let mut handle = self.inner.to_thread_local();
        let bases = self.bases.clone();
        handle.objects.set_pack_cache(move || bases.to_thread_local());
        handle
    }

    fn idle(&self) -> MutexGuard<'_, Vec<gix::Repository>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the file of an object here and, if that has no answer, the library; `None` if it is not here.
    pub(super) fn ask_here<T>(
        &self,
        oid: &Oid,
        loose: impl Fn(&LooseFile) -> Option<T>,
        question: impl Fn(&gix::Repository, gix::ObjectId) -> Result<T, gix::Error>,
    ) -> Result<Option<T>, StoreError> {
        let id = gix::ObjectId::try_from(oid.as_bytes())
            .map_err(|error| unreadable(oid, &error.to_string()))?;
        // A pin holds links to regular files and nothing else.
        let place = if self.pin.is_none() {
            LoosePlace::of(&id, self.objects_dir())
        } else {
            LoosePlace::Empty
        };
        match &place {
            LoosePlace::Empty => {}
            LoosePlace::Special => return Err(unreadable(oid, "it is not a regular file")),
            LoosePlace::File(file) => {
                let answer = catch_unwind(AssertUnwindSafe(|| loose(file)));
                if let Ok(Some(answer)) = answer {
                    return Ok(Some(answer));
                }
            }
        }
        let once = || {
            let handle = self.idle().pop().unwrap_or_else(|| self.handle());
            // One that panicked is not used again.
            let answer = catch_unwind(AssertUnwindSafe(|| question(&handle, id)))?;
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(handle);
            }
            Ok(answer)
        };
        let answer: std::thread::Result<_> = match once() {
            Ok(Err(error)) if error.is_not_found() => once(),
            answer => answer,
        };
        let error = match answer {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        match (self.again.ask(self.git_dir(), id, &question), error) {
            (SecondLook::Answer(answer), _) => Ok(Some(answer)),
            (SecondLook::Unknown(cause), _) => Err(unavailable(oid, cause)),
            (SecondLook::Nothing, None) => Err(unreadable(oid, "it cannot be decoded")),
            (SecondLook::Nothing, Some(error)) => match momentary(&error) {
                Some(cause) => Err(unavailable(oid, cause)),
                None if error.is_not_found() => Ok(None),
                None => Err(unreadable(oid, &words(&error))),
            },
        }
    }
}

/// Checks that an object has the type that whoever named it said.
pub(super) fn expect_kind(oid: &Oid, found: GitKind, expected: GitKind) -> Result<(), StoreError> {
    if found == expected {
        return Ok(());
    }
    Err(unreadable(oid, &format!("it is a {found}, not a {expected}")))
}

/// Checks that bytes are those of their id (S100): the library does not, and an index that is damaged leads to other objects.
pub(super) fn expect_id(oid: &Oid, kind: GitKind, bytes: &[u8]) -> Result<(), StoreError> {
    let wanted = gix::ObjectId::try_from(oid.as_bytes());
    let found = wanted.as_ref().map(|wanted| gix::objs::compute_hash(wanted.kind(), kind, bytes));
    match (&wanted, found) {
        (Ok(wanted), Ok(Ok(found))) if found == *wanted => Ok(()),
        _ => Err(unreadable(oid, "its bytes are not those of its id")),
    }
}

fn unavailable(oid: &Oid, cause: String) -> StoreError {
    StoreError::Unavailable { oid: oid.to_string(), cause }
}

pub(super) fn unreadable(oid: &Oid, cause: &str) -> StoreError {
    StoreError::Unreadable { oid: oid.to_string(), cause: cause.to_owned() }
}
