//! A located tree against a JSON Schema: every problem at once, or the value that the schema's types read.
//!
//! Knows the part of JSON Schema that schemars writes for the types of `raw.rs` and `compat.rs`.

use serde_json::{Map, Number, Value};

use super::key_path::KeyPath;
use super::nearest::{list, nearest};
use super::problem::Severity;
use super::report::Report;
use super::yaml::{MapEntry, NodeContent, YamlNode};

/// What happens to keys that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKeys {
    /// They are errors.
    Refused,
    /// They are left out. One that is nearly a known key is a warning, but not at the top of the file, where other programs have their keys.
    Ignored,
}

/// The value of `tree` as `schema` reads it. What does not fit is left out of it, and is a problem in `report`.
pub(super) fn check(
    tree: &YamlNode,
    schema: &Value,
    unknown: UnknownKeys,
    report: &mut Report,
) -> Value {
    let mut checker = Checker { root: schema, unknown, flaws: Vec::new() };
    let value = if tree.is_null() {
        None
    } else {
        checker.value(tree, schema, &KeyPlace { key: KeyPath::default(), line: tree.line })
    };
    for flaw in checker.flaws {
        if flaw.is_value {
            report.shadow(flaw.place.key.clone());
        }
        report.add(flaw.severity, Some(flaw.place.line), flaw.place.key, flaw.what, flaw.cure);
    }
    value.unwrap_or_else(|| Value::Object(Map::new()))
}

/// The schema that takes everything.
static ANYTHING: Value = Value::Bool(true);

struct Checker<'s> {
    root: &'s Value,
    unknown: UnknownKeys,
    flaws: Vec<Flaw>,
}

struct KeyPlace {
    key: KeyPath,
    line: usize,
}

struct Flaw {
    severity: Severity,
    place: KeyPlace,
    /// Whether a value was left out because of it, so that what depends on that value cannot be judged. False for an unknown key.
    is_value: bool,
    what: String,
    cure: String,
}

impl<'s> Checker<'s> {
    /// The value of a node; `None` where it does not fit, after a flaw was added.
    fn value(&mut self, node: &YamlNode, schema: &'s Value, place: &KeyPlace) -> Option<Value> {
        let schema = self.target(schema);
        if let Some(allowed) = self.allowed(schema) {
            return self.word(node, &allowed, place);
        }
        if let Some(branches) = branches(schema) {
            return self.branch(node, schema, branches, place);
        }
        let types = types(schema);
        if types.is_empty() {
            return Some(as_written(node));
        }
        if node.is_null() && types.contains(&"null") {
            return Some(Value::Null);
        }
        let value = match &node.content {
            NodeContent::Scalar { .. } if node.is_null() => None,
            NodeContent::Scalar { text, is_plain } => scalar(text, *is_plain, &types),
            NodeContent::Sequence(items) if types.contains(&"array") => {
                Some(self.items(items, schema, place))
            }
            NodeContent::Mapping(entries) if types.contains(&"object") => {
                Some(self.entries(entries, schema, place))
            }
            NodeContent::Sequence(_) | NodeContent::Mapping(_) => None,
        };
        let Some(value) = value else {
            return self.refuse(node, schema, place);
        };
        self.range(&value, schema, place)?;
        Some(value)
    }

    /// The schema that a `$ref` names, or the schema itself.
    fn target(&self, schema: &'s Value) -> &'s Value {
        let mut schema = schema;
        while let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let Some(found) = name.strip_prefix('#').and_then(|path| self.root.pointer(path))
            else {
                break;
            };
            schema = found;
        }
        schema
    }

    /// The values of an enumeration; `None` where the schema is none.
    fn allowed(&self, schema: &'s Value) -> Option<Vec<&'s Value>> {
        let schema = self.target(schema);
        if let Some(only) = schema.get("const") {
            return Some(vec![only]);
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Some(values.iter().collect());
        }
        let mut allowed = Vec::new();
        for branch in branches(schema)? {
            if types(self.target(branch)) == ["null"] {
                allowed.push(&Value::Null);
            } else {
                allowed.extend(self.allowed(branch)?);
            }
        }
        Some(allowed)
    }

    /// The value of a node that has to be one of `allowed`.
    fn word(&mut self, node: &YamlNode, allowed: &[&Value], place: &KeyPlace) -> Option<Value> {
        if node.is_null() && allowed.contains(&&Value::Null) {
            return Some(Value::Null);
        }
        let words: Vec<&str> = allowed.iter().filter_map(|value| value.as_str()).collect();
        let cure = format!("write one of: {}", list(&words));
        match &node.content {
            NodeContent::Scalar { text, .. } if words.contains(&text.as_str()) => {
                Some(Value::String(text.clone()))
            }
            NodeContent::Scalar { text, .. } => {
                let cure = match nearest(text, words.iter().copied()) {
                    Some(word) => format!("did you mean `{word}`? {cure}"),
                    None => cure,
                };
                self.error(place, format!("{} is not allowed", shown(text, true)), cure);
                None
            }
            NodeContent::Sequence(_) | NodeContent::Mapping(_) => {
                self.error(place, format!("is {}", kind(node)), cure);
                None
            }
        }
    }

    /// The value of a node under the first branch that takes it without an error. If none does, the flaws are those of the first branch for
    /// its kind of node.
    fn branch(
        &mut self,
        node: &YamlNode,
        schema: &'s Value,
        branches: &'s [Value],
        place: &KeyPlace,
    ) -> Option<Value> {
        let before = self.flaws.len();
        for branch in branches {
            let value = self.value(node, branch, place);
            if self.flaws[before..].iter().all(|flaw| flaw.severity == Severity::Warning) {
                return value;
            }
            self.flaws.truncate(before);
        }
        let wanted = match &node.content {
            NodeContent::Scalar { .. } => return self.refuse(node, schema, place),
            NodeContent::Sequence(_) => "array",
            NodeContent::Mapping(_) => "object",
        };
        match branches.iter().find(|branch| types(self.target(branch)).contains(&wanted)) {
            Some(branch) => self.value(node, branch, place),
            None => self.refuse(node, schema, place),
        }
    }

    fn items(&mut self, items: &[YamlNode], schema: &'s Value, place: &KeyPlace) -> Value {
        let inner = schema.get("items").unwrap_or(&ANYTHING);
        let read = items.iter().enumerate().map(|(i, item)| {
            let place = KeyPlace { key: place.key.index(i), line: item.line };
            // An item that does not fit leaves an empty one, so that those after it keep their numbers.
            self.value(item, inner, &place).unwrap_or_else(|| Value::Object(Map::new()))
        });
        Value::Array(read.collect())
    }

    fn entries(&mut self, entries: &[MapEntry], schema: &'s Value, place: &KeyPlace) -> Value {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| **others != false);
        let mut read = Map::new();
        let is_row = others.is_some_and(|others| types(self.target(others)) == ["object"]);
        for entry in entries {
            let inner = KeyPlace { key: place.key.key(&entry.key), line: entry.line };
            // Without a value it is as if it were not there, by which Helm takes a row away.
            if is_row && entry.value.is_null() {
                continue;
            }
            match known.and_then(|known| known.get(&entry.key)).or(others) {
                Some(schema) => {
                    if let Some(value) = self.value(&entry.value, schema, &inner) {
                        read.insert(entry.key.clone(), value);
                    }
                }
                None => self.unknown(&entry.key, known, inner),
            }
        }
        Value::Object(read)
    }

    fn unknown(&mut self, key: &str, known: Option<&Map<String, Value>>, place: KeyPlace) {
        let keys: Vec<&str> = known.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let near = nearest(key, keys.iter().copied());
        let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let (severity, what) = match self.unknown {
            UnknownKeys::Refused => (Severity::Error, "unknown key"),
            UnknownKeys::Ignored if near.is_none() || place.key.steps().len() < 2 => return,
            UnknownKeys::Ignored => (Severity::Warning, "unknown key, ignored"),
        };
        let cure = format!("{hint}known keys: {}", list(&keys));
        self.flaws.push(Flaw { severity, place, is_value: false, what: what.to_owned(), cure });
    }

    /// Checks a number against the schema's bounds; `None` where it is outside, after a flaw was added.
    fn range(&mut self, value: &Value, schema: &Value, place: &KeyPlace) -> Option<()> {
        let Some(number) = value.as_u64() else { return Some(()) };
        let bound = |name| schema.get(name).and_then(Value::as_u64);
        let least = bound("minimum").unwrap_or(0);
        let format = schema.get("format").and_then(Value::as_str);
        let most = match (bound("maximum"), format) {
            (Some(most), _) => most,
            (None, Some("uint32")) => u64::from(u32::MAX),
            (None, _) => u64::MAX,
        };
        if number < least || number > most {
            let cure = format!("write a number from {least} to {most}");
            self.error(place, format!("`{number}` is out of range"), cure);
            return None;
        }
        Some(())
    }

    /// Adds the flaw that a node is not what the schema wants. Always `None`.
    fn refuse(&mut self, node: &YamlNode, schema: &'s Value, place: &KeyPlace) -> Option<Value> {
        let what = match &node.content {
            NodeContent::Scalar { .. } if node.is_null() => "has no value".to_owned(),
            NodeContent::Scalar { text, is_plain } => {
                format!("{} is not allowed", shown(text, *is_plain))
            }
            NodeContent::Sequence(_) | NodeContent::Mapping(_) => format!("is {}", kind(node)),
        };
        let quoted = matches!(&node.content, NodeContent::Scalar { is_plain: false, .. });
        let hint = if quoted { ", without quotes" } else { "" };
        self.error(place, what, format!("write {}{hint}", self.wanted(schema).join(" or ")));
        None
    }

    /// What a schema wants, in words for a cure.
    fn wanted(&self, schema: &'s Value) -> Vec<String> {
        let schema = self.target(schema);
        if let Some(allowed) = self.allowed(schema) {
            let words = allowed.iter().filter_map(|value| value.as_str());
            return words.map(|word| format!("`{word}`")).collect();
        }
        if let Some(branches) = branches(schema) {
            return branches.iter().flat_map(|branch| self.wanted(branch)).collect();
        }
        let words = types(schema).into_iter().flat_map(|name| match name {
            "string" => &["text"][..],
            "boolean" => &["`true`", "`false`"],
            "integer" => &["a whole number, as `5`"],
            "array" => &["a list"],
            "object" => &["a mapping"],
            _ => &[],
        });
        words.map(|word| (*word).to_owned()).collect()
    }

    fn error(&mut self, place: &KeyPlace, what: String, cure: String) {
        let place = KeyPlace { key: place.key.clone(), line: place.line };
        self.flaws.push(Flaw { severity: Severity::Error, place, is_value: true, what, cure });
    }
}

fn branches(schema: &Value) -> Option<&[Value]> {
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array().map(Vec::as_slice)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Reads a scalar as the schema's types want it: text, where it may be text, is taken as written.
fn scalar(text: &str, is_plain: bool, types: &[&str]) -> Option<Value> {
    if types.contains(&"string") {
        return Some(Value::String(text.to_owned()));
    }
    if !is_plain {
        return None;
    }
    if types.contains(&"boolean") {
        // YAML 1.1's words too: Helm reads them so.
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => return Some(Value::Bool(true)),
            "false" | "no" | "off" => return Some(Value::Bool(false)),
            _ => {}
        }
    }
    // A leading zero would be octal to some readers of YAML.
    let is_decimal = text == "0" || !text.starts_with('0');
    if types.contains(&"integer") && is_decimal && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u64>().ok().map(|number| Value::Number(Number::from(number)));
    }
    None
}

/// The node without any reading: scalars as text.
fn as_written(node: &YamlNode) -> Value {
    match &node.content {
        NodeContent::Scalar { .. } if node.is_null() => Value::Null,
        NodeContent::Scalar { text, .. } => Value::String(text.clone()),
        NodeContent::Sequence(items) => Value::Array(items.iter().map(as_written).collect()),
        NodeContent::Mapping(entries) => Value::Object(
            entries.iter().map(|entry| (entry.key.clone(), as_written(&entry.value))).collect(),
        ),
    }
}

fn kind(node: &YamlNode) -> &'static str {
    match &node.content {
        NodeContent::Scalar { .. } => "text",
        NodeContent::Sequence(_) => "a list",
        NodeContent::Mapping(_) => "a mapping",
    }
}

/// A value in a message: in backticks, with its quotes if it had some, cut where it is long.
fn shown(text: &str, is_plain: bool) -> String {
    let quote = if is_plain { "" } else { "\"" };
    let cut: String = text.chars().take(60).collect();
    let more = if cut.len() == text.len() { "" } else { "..." };
    format!("`{quote}{cut}{more}{quote}`")
}
