//! Any bytes as a journal of node numbers.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::sample::snapshot;
use super::{Depth, Number, Offered, Past, Settings, Sink, View};
use crate::config::resolved::Links;

/// Reads bytes as a journal that an earlier process left, and asks for what numbers stand for.
///
/// # Panics
/// What must hold of the answers does not, or there is no memory for a file.
pub fn journal(bytes: &[u8]) {
    let file = memfd_create(c"journal", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(bytes).expect("a file in memory");
    let Ok((past, journal)) = Past::read(file.try_clone().expect("a descriptor")) else { return };
    let kept = file.metadata().expect("a file in memory").len();
    assert!(kept <= bytes.len() as u64, "what is cut short is cut off");
    let end = past.next_number();
    let settings = Settings { links: Links::All, has_xattrs: true };
    let view = View::resume(snapshot(), settings, None, Vec::new(), (past, Arc::new(journal)));
    for number in (1..64).chain(end.saturating_sub(8)..end + 2) {
        let Ok(number) = u32::try_from(number) else { break };
        ask(&view, Number(number));
    }
    assert!(view.used_numbers() >= end, "a number would be given out again");
    // What was read can be read again, with all that came to it; written anew it says the same.
    let read = || Past::read(file.try_clone().expect("a descriptor")).expect("the same journal");
    let (past, journal) = read();
    journal.shrink(Some(&past)).expect("a file in memory");
    assert_eq!(past.told(), read().0.told(), "the process that wrote it anew");
    drop(journal);
}

fn ask(view: &View, number: Number) {
    struct Few(usize);
    impl Sink for Few {
        fn take(&mut self, _: Offered<'_>) -> bool {
            self.0 += 1;
            self.0 < 8
        }
    }
    let attr = view.attr(number);
    assert!(attr.is_ok_and(|(attr, _)| attr.number == number) || number != Number::ROOT);
    let _answers = (
        view.lookup(number, b"skills"),
        view.list(number, 0, Depth::Attributes, &mut Few(0)),
        view.read(number, 3, 100),
        view.read_link(number),
        view.xattr(number, b"user.overlayfs-mount.source"),
    );
}
