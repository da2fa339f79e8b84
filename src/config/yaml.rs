//! YAML text to a tree in which every value knows its line and its text as written.
//!
//! Plain scalars stay text here: whether `1.10` is a number is for the schema to say. Anchors, aliases and merge keys
//! (`<<`) are resolved, within bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::key_path::{KeyPath, Step};
use super::problem::Severity;
use super::report::Report;

/// Most values that a file may stand for after its aliases are resolved.
const MAX_NODES: usize = 50_000;

/// Most bytes that anchors and aliases may make of a file: each anchor keeps a copy of what it names, and each alias makes one.
const MAX_COPIED_BYTES: usize = 32 << 20;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlNode {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is there.
    pub(super) content: NodeContent,
}

/// What a [`YamlNode`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeContent {
    /// Text as written.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// Whether it stands without quotes and so may be null, a number or a truth value.
        is_plain: bool,
    },
    /// Items in order.
    Sequence(Vec<YamlNode>),
    /// Entries in order, no key twice.
    Mapping(Vec<MapEntry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapEntry {
    /// The key.
    pub(super) key: String,
    /// The line of the key, from 1.
    pub(super) line: usize,
    /// The value.
    pub(super) value: YamlNode,
}

impl YamlNode {
    /// True for a plain scalar that YAML reads as null.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, NodeContent::Scalar { text, is_plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The line of the value that `steps` lead to, or of the last one on the way that exists.
    pub(super) fn line_of(&self, steps: &[Step]) -> usize {
        let (mut node, mut line) = (self, self.line);
        for step in steps {
            match (step, &node.content) {
                (Step::Key(key), NodeContent::Mapping(entries)) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *key) else { break };
                    (node, line) = (&entry.value, entry.line);
                }
                (Step::Index(index), NodeContent::Sequence(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    (node, line) = (item, item.line);
                }
                (
                    _,
                    NodeContent::Scalar { .. } | NodeContent::Sequence(_) | NodeContent::Mapping(_),
                ) => break,
            }
        }
        line
    }

    fn empty(line: usize) -> Self {
        Self { line, content: NodeContent::Mapping(Vec::new()) }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            NodeContent::Scalar { .. } => 0,
            NodeContent::Sequence(items) => items.iter().map(YamlNode::size).sum(),
            NodeContent::Mapping(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }

    /// The memory that a copy takes, in bytes.
    fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.content {
                NodeContent::Scalar { text, .. } => text.len(),
                NodeContent::Sequence(items) => items.iter().map(Self::size_bytes).sum(),
                NodeContent::Mapping(entries) => entries
                    .iter()
                    .map(|entry| size_of::<String>() + entry.key.len() + entry.value.size_bytes())
                    .sum(),
            }
    }
}

/// The document in `bytes`; an empty one is an empty mapping. `None` where it cannot be read at all.
pub(super) fn compose(bytes: &[u8], report: &mut Report) -> Option<YamlNode> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
            let what = format!("is not UTF-8: byte 0x{:02x}", bytes[error.valid_up_to()]);
            let cure = "save the file as UTF-8".to_owned();
            report.add(Severity::Error, Some(line), KeyPath::default(), what, cure);
            return None;
        }
    };
    let mut composer = Composer {
        text,
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        copied_bytes: 0,
        has_aliases: false,
        report,
    };
    composer.document().ok()
}

/// The file cannot be read further; why is in the report.
struct Unreadable;

struct Composer<'t, 'r> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, YamlNode>,
    nodes: usize,
    copied_bytes: usize,
    has_aliases: bool,
    report: &'r mut Report,
}

impl<'t> Composer<'t, '_> {
    fn document(&mut self) -> Result<YamlNode, Unreadable> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root.unwrap_or_else(|| YamlNode::empty(1))),
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => {
                    if root.is_some() {
                        return Err(self.stop(
                            span.start.line(),
                            "a second document begins",
                            "keep one document and remove the `---` line between them",
                        ));
                    }
                    root = Some(self.node(event, span, 0)?);
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Unreadable> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<YamlNode, Unreadable> {
        let line = span.start.line().max(1);
        self.count(1, line)?;
        if depth > MAX_DEPTH {
            let what = format!("is nested more than {MAX_DEPTH} levels deep");
            return Err(self.stop(line, what, "no key of a configuration is that deep"));
        }
        let (anchor, content) = match event {
            Event::Alias(anchor) => return self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.is_tagged_text(tag.as_deref(), line);
                let is_plain = style == ScalarStyle::Plain && !is_text;
                (anchor, NodeContent::Scalar { text: text.into_owned(), is_plain })
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_tagged_text(tag.as_deref(), line);
                (anchor, NodeContent::Sequence(self.items(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.is_tagged_text(tag.as_deref(), line);
                (anchor, NodeContent::Mapping(self.entries(depth)?))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(self.stop(line, "ends too early", "complete or remove the last line"));
            }
        };
        let node = YamlNode { line, content };
        if anchor != 0 {
            self.count_copy(&node, line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<YamlNode>, Unreadable> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<MapEntry>, Unreadable> {
        let mut entries = Entries::default();
        let mut lines = HashMap::<String, usize>::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries.list);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let line = key.line;
            let NodeContent::Scalar { text: key, is_plain } = key.content else {
                self.flaw(line, "a key is a list or a mapping", "write the key as plain text");
                continue;
            };
            if is_plain && key == "<<" {
                let mut more = Entries::default();
                self.merged(value, &mut more);
                self.merge(line, more.list, &lines, &mut entries);
            } else if let Some(first) = lines.get(&key) {
                let what = format!("key `{key}` is given twice, first on line {first}");
                self.flaw(line, what, "remove one of the two");
            } else {
                lines.insert(key.clone(), line);
                entries.put(MapEntry { key, line, value });
            }
        }
    }

    /// Puts the entries of a merge key among those that stand before it, as Helm does (S151): in their place where there are such.
    fn merge(
        &mut self,
        line: usize,
        more: Vec<MapEntry>,
        lines: &HashMap<String, usize>,
        entries: &mut Entries,
    ) {
        for entry in more {
            if let Some(first) = lines.get(&entry.key) {
                let what = format!(
                    "`<<` takes the place of key `{}` on line {first}, which stands before it",
                    entry.key
                );
                let cure = "put `<<` first, and what overrides it after it".to_owned();
                self.report.add(Severity::Warning, Some(line), KeyPath::default(), what, cure);
            }
            entries.put(entry);
        }
    }

    /// The entries of a merge key's value (YAML 1.1's `<<`), one of each key: of a list the first mapping that has it.
    fn merged(&mut self, value: YamlNode, entries: &mut Entries) {
        match value.content {
            NodeContent::Mapping(more) => {
                for entry in more {
                    if !entries.places.contains_key(&entry.key) {
                        entries.put(entry);
                    }
                }
            }
            NodeContent::Sequence(items) => {
                for item in items {
                    self.merged(item, entries);
                }
            }
            NodeContent::Scalar { .. } => {
                self.flaw(value.line, "`<<` merges no mapping", "give it an alias of a mapping");
            }
        }
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<YamlNode, Unreadable> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.stop(line, "an alias stands inside what it names", "write it out"));
        };
        self.has_aliases = true;
        self.count(node.size(), line)?;
        self.count_copy(&node, line)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), Unreadable> {
        const WRITTEN_OUT: &str = "keep in this file only what the configuration needs";
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            let what = format!("stands for more than {MAX_NODES} values");
            let cure = if self.has_aliases { "use fewer aliases" } else { WRITTEN_OUT };
            return Err(self.stop(line, what, cure));
        }
        Ok(())
    }

    fn count_copy(&mut self, node: &YamlNode, line: usize) -> Result<(), Unreadable> {
        self.copied_bytes = self.copied_bytes.saturating_add(node.size_bytes());
        if self.copied_bytes > MAX_COPIED_BYTES {
            let what =
                format!("anchors and aliases make more than {} MiB of it", MAX_COPIED_BYTES >> 20);
            return Err(self.stop(line, what, "use fewer anchors and aliases"));
        }
        Ok(())
    }

    /// True for the tag `!!str`; tags outside YAML's core schema are ignored with a warning.
    fn is_tagged_text(&mut self, tag: Option<&Tag>, line: usize) -> bool {
        let Some(tag) = tag else { return false };
        let is_plain_mark = tag.handle.is_empty() && tag.suffix == "!";
        if !tag.is_yaml_core_schema() && !is_plain_mark {
            let what = format!("tag `{tag}` is ignored");
            let cure = "remove the tag".to_owned();
            self.report.add(Severity::Warning, Some(line), KeyPath::default(), what, cure);
        }
        is_plain_mark || (tag.is_yaml_core_schema() && tag.suffix == "str")
    }

    fn syntax(&mut self, error: &ScanError) -> Unreadable {
        let line = error.marker().line().max(1);
        let is_tabbed = self
            .text
            .lines()
            .skip(line.saturating_sub(2))
            .take(3)
            .any(|line| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t'));
        let cure = if is_tabbed {
            "indent with spaces: YAML permits no tabs there"
        } else {
            "correct this line or the one before; check indentation, quotes and brackets"
        };
        self.stop(line, format!("is not valid YAML: {}", error.info()), cure)
    }

    fn stop(&mut self, line: usize, what: impl Into<String>, cure: &str) -> Unreadable {
        self.flaw(line, what, cure);
        Unreadable
    }

    fn flaw(&mut self, line: usize, what: impl Into<String>, cure: &str) {
        let (what, cure) = (what.into(), cure.to_owned());
        self.report.add(Severity::Error, Some(line), KeyPath::default(), what, cure);
    }
}

/// The entries of a mapping, one of each key.
#[derive(Default)]
struct Entries {
    list: Vec<MapEntry>,
    /// By key.
    places: HashMap<String, usize>,
}

impl Entries {
    /// Puts an entry in the place of the one of its key, or at the end.
    fn put(&mut self, entry: MapEntry) {
        if let Some(place) = self.places.get(&entry.key) {
            self.list[*place] = entry;
        } else {
            self.places.insert(entry.key.clone(), self.list.len());
            self.list.push(entry);
        }
    }
}
