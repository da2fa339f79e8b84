//! What commands call a source.

use std::collections::{BTreeMap, HashSet};

use crate::config::resolved::SourceSpec;

/// The labels of sources, in their order, each another one: the name alone, or where it occurs more than once `name@ref` if all of that name
/// have distinct refs, else `name#2` for the second and so on. What another source is named is passed over.
pub fn labels(specs: &[&SourceSpec]) -> Vec<String> {
    let mut labels: Vec<String> = specs.iter().map(|spec| spec.name.to_string()).collect();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, name) in labels.iter().enumerate() {
        groups.entry(name.clone()).or_default().push(index);
    }
    let mut taken: HashSet<String> = labels.iter().cloned().collect();
    for (name, group) in groups.iter().filter(|(_, group)| group.len() > 1) {
        let by_ref = |index: &usize| match &specs[*index].git_ref {
            Some(git_ref) => format!("{name}@{git_ref}"),
            None => name.clone(),
        };
        let with_refs: Vec<_> = group.iter().map(by_ref).collect();
        let distinct: HashSet<_> = with_refs.iter().collect();
        let is_free = |label: &String| label == name || !taken.contains(label);
        let chosen = if distinct.len() == group.len() && with_refs.iter().all(is_free) {
            with_refs
        } else {
            let numbered = (2..).map(|number| format!("{name}#{number}"));
            let free = numbered.filter(|label| !taken.contains(label));
            [name.clone()].into_iter().chain(free).take(group.len()).collect()
        };
        for (index, label) in group.iter().zip(chosen) {
            taken.insert(label.clone());
            labels[*index] = label;
        }
    }
    labels
}
