//! What commands call a source.

use std::collections::HashMap;

use crate::config::resolved::SourceSpec;
use crate::union::source::SourceName;

/// The labels of sources, in their order: the name alone, or where it occurs more than once `name@ref` if all of that name
/// have distinct refs, else `name#2` for the second and so on.
pub fn labels(specs: &[&SourceSpec]) -> Vec<String> {
    let mut groups: HashMap<&SourceName, Vec<usize>> = HashMap::new();
    for (index, spec) in specs.iter().enumerate() {
        groups.entry(&spec.name).or_default().push(index);
    }
    let mut labels: Vec<String> = specs.iter().map(|spec| spec.name.to_string()).collect();
    for group in groups.values().filter(|group| group.len() > 1) {
        let refs: std::collections::HashSet<_> =
            group.iter().map(|index| specs[*index].git_ref.as_deref()).collect();
        let are_distinct = refs.len() == group.len();
        for (nth, index) in group.iter().enumerate() {
            match &specs[*index].git_ref {
                Some(git_ref) if are_distinct => {
                    labels[*index] = format!("{}@{git_ref}", specs[*index].name);
                }
                None if are_distinct => {}
                Some(_) | None if nth == 0 => {}
                Some(_) | None => labels[*index] = format!("{}#{}", specs[*index].name, nth + 1),
            }
        }
    }
    labels
}
