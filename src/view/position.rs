//! Offsets of directories that flips change: each has its set and a position in it, so that one stream is one set (S59).
//!
//! They stay below 2^31, where 32-bit programs can read them. Most directories are small: below a position of 2^11 there are 19 bits for the
//! set, for later ones, which have the highest bit, 11. So a set is taken for another one that is so many flips away, and no nearer one.

/// The bit of a late position.
const LATE: u64 = 1 << (SHORT.set_bits + SHORT.index_bits);
const SHORT: Form = Form { set_bits: 19, index_bits: 11 };
const LONG: Form = Form { set_bits: 11, index_bits: 19 };

/// How the bits are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    set_bits: u32,
    index_bits: u32,
}

impl Form {
    fn set(self, serial: u64) -> u64 {
        serial & ((1 << self.set_bits) - 1)
    }
}

/// A position in a set, as an offset has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// 0 is `.`, 1 is `..`.
    pub(super) index: u64,
    set: u64,
    form: Form,
}

impl Position {
    /// Reads an offset.
    pub(super) fn of(offset: u64) -> Self {
        let form = if offset & LATE == 0 { SHORT } else { LONG };
        let index = offset & ((1 << form.index_bits) - 1);
        Self { index, set: form.set(offset >> form.index_bits), form }
    }

    /// Whether it is in the set of a snapshot with this serial number.
    pub(super) fn is_in(&self, serial: u64) -> bool {
        self.form.set(serial) == self.set
    }
}

/// The offset of a position; nothing for one that is too late.
pub(super) fn offset(serial: u64, index: u64) -> Option<u64> {
    let with = |form: Form| form.set(serial) << form.index_bits | index;
    match index {
        _ if index < 1 << SHORT.index_bits => Some(with(SHORT)),
        _ if index < 1 << LONG.index_bits => Some(LATE | with(LONG)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolved::Links;
    use crate::union::revision::RevisionSetId;
    use crate::view::journal::FORM;
    use crate::view::nodes::Number;
    use crate::view::tests::{Collected, KEEPING, Told, list, next, view};
    use crate::view::{Depth, Keeping, ViewError, streams};
    use std::sync::Arc;

    #[test]
    fn offsets_are_read_as_they_were_made_and_grow() {
        for serial in [0, 1, 2047, 2048, 4096, 524_287, u64::from(u32::MAX)] {
            let mut last = None;
            for index in [1, 2, 2047, 2048, 2049, 524_287] {
                let offset = offset(serial, index).unwrap();
                assert!(offset < 1 << 31 && Some(offset) > last);
                last = Some(offset);
                let position = Position::of(offset);
                assert_eq!(position.index, index);
                assert!(position.is_in(serial) && !position.is_in(serial + 1));
                assert!(!position.is_in(serial + 2047));
            }
        }
        assert_eq!(offset(1, 524_288), None);
    }

    /// A journal that can be read says that the kernel's offsets can be.
    #[test]
    fn s95_another_form_of_offsets_is_another_form_of_the_journal() {
        let of_sets = [offset(5, 3), offset(5, 3000)].map(Option::unwrap);
        let of_live = [streams::offset(5, 3), streams::offset(5, 1 << 20)];
        assert_eq!(
            (FORM, of_sets, of_live),
            (7, [0x2803, 0x4028_0bb8], [0x28_0003, 0x1_0028_0000])
        );
    }

    #[test]
    fn s59_a_stream_is_not_continued_in_a_set_thousands_of_flips_later() {
        for flips in [2048, 4096, 8192, 524_287] {
            let view = view(Links::All);
            let offset = list(&view, Number::ROOT, 0, 3).names[2].2;
            for serial in [flips - 1, flips] {
                let mut next = Arc::into_inner(next(&view, "prompts/00.md")).unwrap();
                (next.serial, next.id) =
                    (serial, RevisionSetId([u8::try_from(serial % 251).unwrap(); 32]));
                view.flip(Arc::new(next), Keeping { sets: 1, ..KEEPING }, &Told::default());
            }
            let mut sink = Collected { names: Vec::new(), unreadable: Vec::new(), room: 100 };
            let answer = view.list(Number::ROOT, offset, Depth::Names, &mut sink);
            assert!(matches!(answer, Err(ViewError::Stale)), "{flips}: {:?}", sink.names);
        }
    }
}
