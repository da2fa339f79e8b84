//! A log that has a bound: when it is full its older half goes (S147).
//!
//! It is cut in place, for other processes of the mount append to the same file, and hold locks on it. What they write in that moment may
//! be lost.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::log::{LogLines, says_trouble};

/// The most bytes of a log in the run directory, which most machines have in memory.
const SIZE_MAX: u64 = 8 << 20;

/// A file that is appended to.
#[derive(Debug)]
pub(super) struct BoundedLog {
    file: File,
    lines: LogLines,
    size_max: u64,
}

impl BoundedLog {
    /// Of a file that is open to be read and appended to.
    pub(super) fn new(file: File, lines: LogLines) -> Self {
        Self { file, lines, size_max: SIZE_MAX }
    }

    /// Drops the older half, whole lines, and says so in the first one.
    fn cut(&mut self) -> io::Result<()> {
        let mut all = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut all, 0)?;
        let half = all.len() / 2;
        let line_end = all[half..].iter().position(|byte| *byte == b'\n');
        let (old, new) = all.split_at(line_end.map_or(all.len(), |end| half + end + 1));
        let old_lines = old.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        let level =
            if old_lines.into_iter().any(|line| says_trouble(&line)) { "WARN" } else { "INFO" };
        // A write of another process came first: it has cut it.
        if self.file.metadata()?.len() < all.len() as u64 {
            return Ok(());
        }
        let first = new.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let said = self.said(level, &String::from_utf8_lossy(first));
        self.file.set_len(0)?;
        self.file.write_all(&[said.as_bytes(), new].concat())
    }

    /// The line that says so, with the time of the one that follows it.
    fn said(&self, level: &str, first: &str) -> String {
        let target = module_path!();
        let message =
            format!("older lines are gone: a log here has {} bytes at most", self.size_max);
        match self.lines {
            LogLines::Text => {
                let timestamp = first.split_whitespace().next().unwrap_or_default();
                format!("{timestamp} {level:>5} {target}: {message}\n")
            }
            LogLines::Json => {
                let first = serde_json::from_str::<serde_json::Value>(first).unwrap_or_default();
                let said = serde_json::json!({
                    "timestamp": first["timestamp"],
                    "level": level,
                    "fields": { "message": message },
                    "target": target,
                });
                format!("{said}\n")
            }
        }
    }
}

impl Write for BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let size_bytes = self.file.metadata().map_or(0, |found| found.len());
        if size_bytes + line.len() as u64 > self.size_max {
            // What cannot be cut grows on: it is a log all the same.
            self.cut().unwrap_or_default();
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    fn written(lines: LogLines, line: impl Fn(usize) -> String) -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let open = || OpenOptions::new().create(true).read(true).append(true).open(&path).unwrap();
        let bounded = || BoundedLog { file: open(), lines, size_max: 4096 };
        // Two processes of one mount.
        let mut logs = [bounded(), bounded()];
        for number in 0..1000 {
            logs[number % 2].write_all(line(number).as_bytes()).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 4096, "{number}");
        }
        fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn s147_a_log_in_the_run_directory_has_a_bound() {
        let level = |number| if number == 3 { "WARN" } else { "INFO" };
        let text = written(LogLines::Text, |number| {
            format!("2026-11-30T05:{number:06} {:>5} a::b: line {number}\n", level(number))
        });
        assert!(text[0].contains(" WARN ") && text[0].contains("older lines are gone"), "{text:?}");
        assert!(says_trouble(&text[0]), "it says for good that there was trouble");
        assert!(text.last().unwrap().ends_with("line 999") && text.len() > 30, "{text:?}");
        assert!(text[1..].iter().all(|line| line.contains(": line ")), "{text:?}");
        let json = written(LogLines::Json, |number| {
            format!(
                "{{\"timestamp\":\"{number}\",\"level\":\"INFO\",\"fields\":{{}},\"target\":\"t\"}}\n"
            )
        });
        let first: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        let second: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        assert_eq!((&first["timestamp"], &first["level"]), (&second["timestamp"], &"INFO".into()));
        assert!(json.last().unwrap().contains("\"999\""), "{json:?}");
    }
}
