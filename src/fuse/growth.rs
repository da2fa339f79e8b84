//! Live files that have grown: the kernel is told the new size only once it keeps no page that ends at the old one.
//!
//! The kernel takes a size over first and drops the pages that it keeps then (`fuse_change_attributes`, `fs/fuse/inode.c`): who reads in between
//! gets the old bytes, and zeros up to the new end. So names and listings give a file that has grown its old size, for no time; and before its
//! attributes are answered its pages are dropped, by a message for which the kernel may have to wait for reads of them.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use fuser::ReplyAttr;

use super::attr::file_attr;
use super::kernel::{Courier, message_about_inode};
use super::session::Owner;
use super::waiting::Waiting;
use crate::union::object::Kind;
use crate::view::{Attr, Lifetime, Number};

/// What the kernel was told of the sizes of the live files that it knows.
#[derive(Clone)]
pub(super) struct Growth {
    told: Arc<DashMap<Number, Told>>,
    owner: Owner,
    /// Who tells the kernel to drop pages; without one the kernel does it by itself, a moment too late.
    courier: Option<Courier>,
}

/// What was told of one file.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// No page that is kept ends before this.
    size_bytes: u64,
    /// Whether the kernel may not have taken it: it takes no attributes that it asked for before its pages were dropped.
    is_new: bool,
}

/// How attributes that were asked for can be answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// With these.
    Now(Attr, Lifetime),
    /// With those that were found, once the kernel keeps no page.
    Later,
}

impl Growth {
    pub(super) fn new(owner: Owner, courier: Option<Courier>) -> Self {
        Self { told: Arc::default(), owner, courier }
    }

    /// What the answer to a name, or a listing, says of attributes.
    pub(super) fn named(&self, attr: Attr, lifetime: Lifetime) -> (Attr, Lifetime) {
        if !self.concerns(&attr, lifetime) {
            return (attr, lifetime);
        }
        let found = Told { size_bytes: attr.size_bytes, is_new: false };
        let mut told = self.told.entry(attr.number).or_insert(found);
        if attr.size_bytes > told.size_bytes {
            return (Attr { size_bytes: told.size_bytes, ..attr }, Lifetime::None);
        }
        *told = found;
        (attr, lifetime)
    }

    /// Answers with attributes that were asked for.
    pub(super) fn answer(&self, waiting: &Waiting, found: (Attr, Lifetime), reply: ReplyAttr) {
        let (owner, (attr, lifetime)) = (self.owner, found);
        let answer = move |reply: ReplyAttr, (attr, lifetime): (Attr, Lifetime)| {
            reply.attr(&lifetime.duration(), &file_attr(&attr, owner));
        };
        match self.asked(attr, lifetime) {
            Answer::Now(attr, lifetime) => answer(reply, (attr, lifetime)),
            Answer::Later => {
                let growth = self.clone();
                waiting.run_knowing(move |is_apart| {
                    if !is_apart {
                        // A thread that answers reads must not wait for any.
                        return answer(reply, growth.named(attr, lifetime));
                    }
                    growth.drop_pages(&attr);
                    answer(reply, (attr, lifetime));
                });
            }
        }
    }

    fn asked(&self, attr: Attr, lifetime: Lifetime) -> Answer {
        if !self.concerns(&attr, lifetime) {
            return Answer::Now(attr, lifetime);
        }
        // What is not known here is known to the kernel from the process before this one.
        let Some(mut told) = self.told.get_mut(&attr.number) else { return Answer::Later };
        if attr.size_bytes <= told.size_bytes {
            *told = Told { size_bytes: attr.size_bytes, is_new: false };
            return Answer::Now(attr, lifetime);
        }
        if !told.is_new {
            return Answer::Later;
        }
        // It has grown again. The kernel is to take first what it was told, or it would never take any of a file that grows all the time.
        told.is_new = false;
        Answer::Now(Attr { size_bytes: told.size_bytes, ..attr }, Lifetime::None)
    }

    /// Has the kernel drop the pages of a file, which had this size before; returns when it has.
    fn drop_pages(&self, attr: &Attr) {
        if let Some(courier) = &self.courier {
            // A file that the kernel does not know has no pages, and after its end there is no reader.
            drop(courier(&message_about_inode(attr.number)));
        }
        self.told.insert(attr.number, Told { size_bytes: attr.size_bytes, is_new: true });
    }

    /// The kernel has forgotten a node.
    pub(super) fn forget(&self, number: Number) {
        self.told.remove(&number);
    }

    /// Only attributes of what is live last for a while.
    fn concerns(&self, attr: &Attr, lifetime: Lifetime) -> bool {
        let is_live = lifetime == Lifetime::Live && matches!(attr.kind, Kind::File { .. });
        is_live && self.courier.is_some()
    }
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growth").field("told", &self.told.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const FILE: Number = Number(7);

    fn attr(size_bytes: u64) -> Attr {
        Attr {
            number: FILE,
            kind: Kind::File { is_executable: false },
            size_bytes,
            modified: (0, 0),
        }
    }

    fn now(size_bytes: u64, lifetime: Lifetime) -> Answer {
        Answer::Now(attr(size_bytes), lifetime)
    }

    /// With the messages that were carried.
    fn growth() -> (Growth, Arc<Mutex<Vec<Vec<u8>>>>) {
        let carried = Arc::<Mutex<Vec<_>>>::default();
        let log = carried.clone();
        let courier: Courier = Arc::new(move |message| {
            log.lock().unwrap().push(message.to_vec());
            Some(Ok(()))
        });
        (Growth::new(Owner { uid: 0, gid: 0 }, Some(courier)), carried)
    }

    #[test]
    fn s33_a_file_that_has_grown_loses_its_pages_before_its_size_is_told() {
        let (growth, carried) = growth();
        assert_eq!(growth.named(attr(5), Lifetime::Live), (attr(5), Lifetime::Live));
        assert_eq!(growth.asked(attr(5), Lifetime::Live), now(5, Lifetime::Live));
        // A name may not say it, and what it says is to be asked for again.
        assert_eq!(growth.named(attr(9), Lifetime::Live), (attr(5), Lifetime::None));
        assert_eq!(growth.asked(attr(9), Lifetime::Live), Answer::Later);
        assert!(carried.lock().unwrap().is_empty());
        growth.drop_pages(&attr(9));
        assert_eq!(*carried.lock().unwrap(), [message_about_inode(FILE)]);
        // The kernel asks once more, since it has not taken that answer.
        assert_eq!(growth.asked(attr(9), Lifetime::Live), now(9, Lifetime::Live));
        // One that is shorter is told at once, and has grown from there.
        assert_eq!(growth.asked(attr(3), Lifetime::Live), now(3, Lifetime::Live));
        assert_eq!(growth.asked(attr(4), Lifetime::Live), Answer::Later);
    }

    #[test]
    fn a_file_that_grows_all_the_time_is_seen_growing() {
        let (growth, _) = growth();
        growth.named(attr(0), Lifetime::Live);
        let mut taken = Vec::new();
        for size in 1..=6 {
            match growth.asked(attr(size), Lifetime::Live) {
                Answer::Later => growth.drop_pages(&attr(size)),
                Answer::Now(attr, _) => taken.push(attr.size_bytes),
            }
        }
        assert_eq!(taken, [1, 3, 5]);
    }

    #[test]
    fn what_another_process_told_the_kernel_is_not_relied_on() {
        let (growth, _) = growth();
        assert_eq!(growth.asked(attr(5), Lifetime::Live), Answer::Later);
        growth.named(attr(5), Lifetime::Live);
        growth.forget(FILE);
        assert_eq!(growth.asked(attr(5), Lifetime::Live), Answer::Later);
        // Frozen files never grow, and are asked for as often as anybody likes.
        assert_eq!(growth.asked(attr(5), Lifetime::Unlimited), now(5, Lifetime::Unlimited));
        let alone = Growth::new(Owner { uid: 0, gid: 0 }, None);
        assert_eq!(alone.asked(attr(5), Lifetime::Live), now(5, Lifetime::Live));
    }
}
