//! Flips, and what the kernel still keeps after them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Cache, Driver, Place};
use super::world::{Choice, SETS_KEPT, Thing};
use crate::snapshot::Snapshot;
use crate::view::{Found, Keeping, Kernel, Lifetime, Number, View};

impl Driver {
    pub(super) fn flip(&mut self, choice: Choice) {
        let before = self.view.snapshot();
        let next = self.world.follow(choice);
        let keeping = Keeping { sets: SETS_KEPT, time: Duration::ZERO };
        let kernel = Forgetting { view: &self.view, cache: &self.cache, before };
        self.view.flip(next, keeping, &kernel);
        self.view.sweep(&kernel);
        assert_eq!(self.view.kept_sets(), self.world.kept.len());
        // What nobody can come to may have another number when it comes back.
        let there = self.there();
        self.places.retain(|place, _| there.contains(place));
        self.keeps_nothing_old();
    }

    /// What the kernel keeps until it is told is what is there.
    pub(super) fn keeps_nothing_old(&self) {
        let cache = self.cache.borrow();
        for ((parent, name), cached) in &cache.names {
            let Some(children) = self.children(*parent, self.world.current()) else { continue };
            if name == b".overlay" {
                continue;
            }
            let expected = children.into_iter().find(|(known, _)| known == name);
            let expected = expected.map(|(_, thing)| self.what(*parent, name, &thing));
            let cached = cached.map(|number| self.met[&number].clone());
            assert_eq!(cached, expected, "the kernel still has the old {name:?}");
        }
        let attrs: Vec<_> = cache.attrs.values().copied().collect();
        drop(cache);
        for attr in attrs {
            if self.world.attr(&self.known[&attr.number].thing).is_some() {
                self.agree(attr, Lifetime::Unlimited);
            }
        }
    }
}

impl Driver {
    /// All that has a number and can be found by its name, from the root or a directory that is known.
    fn there(&self) -> HashSet<Place> {
        let known = self.known.iter().filter(|(_, known)| !known.is_listed_only);
        let mut left: Vec<_> =
            known.map(|(number, known)| (*number, known.thing.clone())).collect();
        let (mut seen, mut there) = (HashSet::new(), HashSet::new());
        while let Some((number, thing)) = left.pop() {
            if !seen.insert(number) {
                continue;
            }
            let mut children =
                self.world.children(&thing, self.world.current()).unwrap_or_default();
            if number == Number::ROOT {
                children.push((b".overlay".to_vec(), Thing::Overlay));
            }
            for (name, child) in children {
                let what = self.what(number, &name, &child);
                let place = (number, name, what);
                // Those of the next set are written when somebody asks for one (S111).
                let is_text = matches!(child, Thing::Text { is_link: false, .. });
                let number = self.places.get(&place);
                if let Some(number) = number.filter(|it| !is_text || self.known.contains_key(it)) {
                    left.push((*number, child));
                    there.insert(place);
                }
            }
        }
        there
    }
}

/// The kernel during a flip. It looks each name up that it forgets.
struct Forgetting<'a> {
    view: &'a View,
    cache: &'a RefCell<Cache>,
    before: Arc<Snapshot>,
}

impl Kernel for Forgetting<'_> {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        self.cache.borrow_mut().names.remove(&(directory, name.to_vec()));
        if name.len() == 64 {
            // Looking a set up makes more of one that is known from a listing only.
            return;
        }
        let is_before = Arc::ptr_eq(&self.view.snapshot(), &self.before);
        let lifetime = match self.view.lookup(directory, name) {
            Ok(Found::Present { attr, name_lifetime, .. }) => {
                self.view.forget(attr.number, 1);
                name_lifetime
            }
            Ok(Found::Absent(lifetime)) => lifetime,
            Err(_) => return,
        };
        assert_eq!(lifetime == Lifetime::None, is_before, "{name:?}: {lifetime:?}");
    }

    fn forget_listing(&self, directory: Number) {
        self.cache.borrow_mut().attrs.remove(&directory);
    }
}
