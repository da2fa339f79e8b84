//! `.overlay`: the view about itself. Found by name in the root, not listed there (S41).

use std::sync::Arc;

use super::attr::Lifetime;
use super::lookup::Candidate;
use super::nodes::Node;
use super::numbers::Key;
use super::{View, ViewError};

/// The name in the root.
pub(super) const NAME: &[u8] = b".overlay";

impl View {
    pub(super) fn overlay(&self) -> Result<Candidate, ViewError> {
        let number = self.numbers.single(Key::new(&[b"overlay"]))?;
        Ok(Candidate { number, node: Node::Overlay, name_lifetime: Lifetime::Unlimited })
    }

    pub(super) fn in_overlay(&self, name: &[u8]) -> Result<Option<Candidate>, ViewError> {
        let snapshot = self.current.load();
        let texts = snapshot.texts();
        let Some((_, text)) = texts.iter().find(|(known, _)| known.as_bytes() == name) else {
            return Ok(None);
        };
        self.text(name, text).map(Some)
    }

    /// The node of a text: another text is another node.
    pub(super) fn text(&self, name: &[u8], text: &Arc<[u8]>) -> Result<Candidate, ViewError> {
        let number = self.numbers.single(Key::new(&[b"text", name, text]))?;
        let node = Node::Text(text.clone());
        Ok(Candidate { number, node, name_lifetime: Lifetime::Unlimited })
    }
}
