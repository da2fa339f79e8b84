//! The difference of two namespaces, as a list of names.

use std::cmp::Ordering;
use std::sync::Arc;

use super::name::{Name, RelPath};
use super::namespace::{Directory, Item, Namespace, Shown};

/// What a name leads to on one side of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// Nothing.
    Absent,
    /// A merged directory, with all that is in it.
    Directory(Arc<Directory>),
    /// An entry.
    Entry(Arc<Shown>),
}

impl From<&Item> for Side {
    fn from(item: &Item) -> Self {
        match item {
            Item::Directory(directory) => Self::Directory(Arc::clone(directory)),
            Item::Entry(shown) => Self::Entry(Arc::clone(shown)),
        }
    }
}

/// A name in a merged directory that leads to something else, or to nothing, on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name with the directories above it, in the view.
    pub path: RelPath,
    /// What it led to.
    pub before: Side,
    /// What it leads to.
    pub after: Side,
}

/// The names that differ between two namespaces, sorted by path.
///
/// A name that changes its type, appears or vanishes is one change, whatever is below it; two directories of one name are
/// compared inside. `is_same` says whether two entries at one path are the same for the caller: positions of sources mean
/// something in their own snapshot only. A directory that both sides share (the same allocation) is taken as unchanged.
/// Takes time in proportion to the two trees.
pub fn changes(
    before: &Namespace,
    after: &Namespace,
    mut is_same: impl FnMut(&Shown, &Shown) -> bool,
) -> Vec<Change> {
    let mut found = Vec::new();
    compare(before.root(), after.root(), &RelPath::root(), &mut is_same, &mut found);
    found
}

fn compare(
    before: &Arc<Directory>,
    after: &Arc<Directory>,
    path: &RelPath,
    is_same: &mut impl FnMut(&Shown, &Shown) -> bool,
    found: &mut Vec<Change>,
) {
    if Arc::ptr_eq(before, after) {
        return;
    }
    for (name, before, after) in pairs(&before.items, &after.items) {
        match (before, after) {
            (Some(Item::Directory(before)), Some(Item::Directory(after))) => {
                compare(before, after, &path.join(name), is_same, found);
            }
            (Some(Item::Entry(before)), Some(Item::Entry(after))) if is_same(before, after) => {}
            (before, after) => found.push(Change {
                path: path.join(name),
                before: before.map_or(Side::Absent, Side::from),
                after: after.map_or(Side::Absent, Side::from),
            }),
        }
    }
}

/// The names of two sorted lists in order, each with its item on either side.
fn pairs<'a>(
    mut before: &'a [(Name, Item)],
    mut after: &'a [(Name, Item)],
) -> impl Iterator<Item = (&'a Name, Option<&'a Item>, Option<&'a Item>)> {
    std::iter::from_fn(move || {
        let order = match (before.first(), after.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((before, _)), Some((after, _))) => before.cmp(after),
        };
        let old = if order.is_le() { before.split_off_first() } else { None };
        let new = if order.is_ge() { after.split_off_first() } else { None };
        let (name, _) = old.or(new)?;
        Some((name, old.map(|(_, item)| item), new.map(|(_, item)| item)))
    })
}
