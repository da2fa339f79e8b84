//! What a fuzzer feeds with bytes of its choice: each reader of bytes that this program did not write, and what must hold of its answer.
//!
//! Only for the targets in `fuzz/` and for tests, which read `fuzz/corpus/` with it.

pub use crate::config::fuzzing::{configuration, values};
pub use crate::control::fuzzing::{http, request};
pub use crate::store::git::fuzzing::tree;
pub use crate::view::fuzzing::journal;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    type Target = (&'static str, fn(&[u8]));
    const TARGETS: [Target; 6] = [
        ("tree", super::tree),
        ("configuration", super::configuration),
        ("values", super::values),
        ("request", super::request),
        ("http", super::http),
        ("journal", super::journal),
    ];

    #[test]
    fn every_target_takes_its_corpus() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in TARGETS {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
            let mut count = 0;
            for entry in fs::read_dir(fuzz.join("corpus").join(name)).expect(name) {
                let path = entry.expect(name).path();
                eprintln!("{}", path.display());
                target(&fs::read(&path).expect(name));
                count += 1;
            }
            assert!(count > 0, "{name} has no corpus");
        }
        let targets = fs::read_dir(fuzz.join("fuzz_targets")).expect("a directory of the project");
        assert_eq!(targets.count(), TARGETS.len(), "a target is not in the table of this test");
    }
}
