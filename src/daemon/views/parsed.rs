//! The files of a directory of views as they were parsed last.
//!
//! Each is asked for several times in a row, and parsing it takes longer than reading it. What counts is the text that is there now: one
//! that was changed without a trace in its times is parsed anew.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ViewsPlan;
use crate::config::resolved::Config;
use crate::control::ControlError;

/// What is known of the files that were parsed.
#[derive(Debug, Default)]
pub(super) struct Parsed(HashMap<PathBuf, (Vec<u8>, Config)>);

impl Parsed {
    /// What a file says now, with its text. It is read, and parsed where it does not say what it said before.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration.
    pub(super) fn load(
        &mut self,
        plan: &ViewsPlan,
        file: &Path,
    ) -> Result<(Config, Vec<u8>), ControlError> {
        let text = ViewsPlan::read(file)?;
        let known = self.0.get(file).filter(|(known, _)| *known == text);
        if let Some((_, config)) = known {
            return Ok((config.clone(), text));
        }
        let config = plan.parse(file, &text)?;
        self.0.insert(file.to_owned(), (text.clone(), config.clone()));
        Ok((config, text))
    }

    /// Forgets one.
    pub(super) fn forget(&mut self, file: &Path) {
        self.0.remove(file);
    }

    /// Forgets all but these, which are sorted.
    pub(super) fn retain(&mut self, files: &[PathBuf]) {
        self.0.retain(|file, _| files.binary_search(file).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;

    use super::*;

    #[test]
    fn what_counts_is_what_a_file_says_now() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("one.yaml");
        let plan = ViewsPlan::sample(directory.path());
        let mut parsed = Parsed::default();
        let text = |at: &str| format!("overlays: {{sources: []}}\nmount: {{at: {at}}}\n");
        let mut at = |text: &str| {
            let before = fs::metadata(&file).and_then(|found| found.modified());
            fs::write(&file, text).unwrap();
            if let Ok(before) = before {
                // As many bytes, and no newer.
                File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
            }
            parsed.load(&plan, &file).map(|(config, _)| config.mount.at)
        };
        assert_eq!(at(&text("/one")).unwrap(), Path::new("/one"));
        assert_eq!(at(&text("/one")).unwrap(), Path::new("/one"));
        assert_eq!(at(&text("/two")).unwrap(), Path::new("/two"));
        assert!(at("overlays: [").is_err());
        assert!(at("").is_err());
        assert_eq!(at(&text("/two")).unwrap(), Path::new("/two"));
        parsed.retain(&[]);
        assert!(parsed.0.is_empty());
    }
}
