//! Every metric, once: its name, kind, labels and meaning; and the page on which their values are written.
//!
//! docs/OPERATIONS.md has the same table, and a test holds the two together.

use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric as Sample, MetricFamily, MetricType};
use prometheus::{Histogram, TextEncoder};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often, and how long in all.
    Histogram,
}

/// Which process tells a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// `mount`, for each view: with many, each value has the label `view`.
    View,
    /// `mount`, for all that it serves.
    Mount,
    /// `mount --views`.
    Views,
    /// `sync`, and `mount` for each view whose repo cache it keeps.
    Fetching,
    /// `sync` alone: a mount names only sources that it shows.
    Sync,
    /// Each of them.
    Every,
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Who tells it.
    pub teller: Teller,
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $teller:ident $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(super) const $id: Metric = Metric {
                name: concat!("overlayfs_mount_", $name),
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                teller: Teller::$teller,
                help: $help,
            };
        )*
        /// All metrics, in the order of the page.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD = Gauge "build_info" ["version"] Every "The version that runs; always 1.";
    VIEWS = Gauge "views" ["state"] Views "Files of the directory of views by how their view is: shown, broken, unmounted.";
    REVISION = Gauge "revision_info" ["revision"] View "The revision set that is shown; always 1.";
    REVISION_SINCE = Gauge "revision_timestamp_seconds" [] View "When the revision set that is shown was built.";
    SOURCES = Gauge "sources" ["state"] View "Sources by state: ready, stale, missing, broken.";
    SOURCE = Gauge "source_info" ["source", "ref", "revision", "visibility"] View "A source and the revision of it that is shown; always 1.";
    SOURCE_STATE = Gauge "source_state" ["source", "state"] View "1 for the state that a source is in, 0 for the others.";
    PINS = Gauge "source_pins" ["state"] View "Git sources by whether what they show outlives their repository: pinned, unpinned.";
    ENTRIES = Gauge "entries" ["surface"] View "Entries that are shown.";
    HIDDEN = Gauge "hidden_entries" ["surface"] View "Entries that a later source hides.";
    KEPT = Gauge "kept_sets" [] View "Revision sets that were left and can still be read.";
    LOOK = Gauge "last_look_timestamp_seconds" [] View "When sources and configuration were last looked at, and what had moved was followed.";
    REBUILDS = Counter "rebuilds_total" [] View "How often something had moved and the next revision set was to be built.";
    REBUILD_FAILURES = Counter "rebuild_failures_total" [] View "How often it could not be built, or the configuration was wrong: the view stayed as it was.";
    FLIPS = Counter "flips_total" [] View "How often another revision set took the place of the current one.";
    FLIP_DURATION = Histogram "flip_duration_seconds" [] View "How long it took to put a revision set in place, without building it.";
    CHANGED_NAMES = Counter "changed_names_total" [] View "Names of the view that flips changed.";
    REQUESTS = Counter "requests_total" ["operation"] Mount "Requests of the kernel.";
    REQUEST_ERRORS = Counter "request_errors_total" ["operation", "error"] Mount "Requests that were answered with an error; absent names and refused writes are none.";
    AHEAD = Counter "read_ahead_files_total" [] Mount "Small files that the kernel was given before it asked, since files were read one after the other.";
    NODES = Gauge "nodes" [] Mount "Files and directories that the kernel knows.";
    NUMBERS = Gauge "used_inode_numbers_ratio" [] Mount "The part of all inode numbers that was given out, of several superblocks the most; at 1 a new mount is needed.";
    BLOB_BYTES = Gauge "blob_cache_bytes" ["place"] Mount "Bytes of decoded contents that are held: memory, disk.";
    BLOB_HITS = Counter "blob_cache_hits_total" [] Mount "Reads of git contents that were held.";
    BLOB_MISSES = Counter "blob_cache_misses_total" [] Mount "Reads of git contents that were not held and had to be decoded.";
    ROUNDS = Counter "fetch_rounds_total" ["outcome"] Fetching "Rounds of fetching by outcome: success, failure. A success left all of the repo cache as the remotes are.";
    ROUND_SUCCESS = Gauge "fetch_last_success_timestamp_seconds" [] Fetching "When the last round that was a success ended; 0 before.";
    FETCH_FAILED = Gauge "fetch_failed_sources" [] Fetching "Sources that could not be fetched in the last round.";
    FETCH_SOURCE_FAILED = Gauge "fetch_source_failed" ["source"] Sync "1 if a source could not be fetched in the last round, else 0.";
}

/// The metrics of one moment.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<MetricFamily>,
    /// The view that is written about, where there may be several.
    view: Option<String>,
}

impl Page {
    /// A page with what every process tells.
    pub fn new() -> Self {
        let mut page = Self::default();
        page.each(&BUILD, [(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)]);
        page
    }

    /// What is written from now on is about this view; without a name about the only one, or about all.
    pub fn about(&mut self, view: Option<&str>) {
        self.view = view.map(str::to_owned);
    }

    /// Writes a metric without labels.
    pub(super) fn one(&mut self, metric: &Metric, value: f64) {
        self.each(metric, [(Vec::new(), value)]);
    }

    /// Writes a metric with the values of its labels, in order. Without any value it is left out.
    pub(super) fn each(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) {
        let samples = values.into_iter().map(|(labels, value)| sample(metric, labels, value));
        let samples = samples.collect();
        self.put(metric, samples);
    }

    /// Writes a metric of a histogram.
    pub(super) fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        let samples = histogram.collect().into_iter().flat_map(|mut family| family.take_metric());
        self.put(metric, samples.collect());
    }

    fn put(&mut self, metric: &Metric, mut samples: Vec<Sample>) {
        if samples.is_empty() {
            return;
        }
        if let Some(view) = &self.view {
            for sample in &mut samples {
                let mut pairs = vec![pair(VIEW, view.clone())];
                pairs.extend(sample.take_label());
                sample.set_label(pairs);
            }
        }
        // A name stands once on a page, with all its values.
        if let Some(family) = self.families.iter_mut().find(|known| known.name() == metric.name) {
            samples.splice(0..0, family.take_metric());
            family.set_metric(samples);
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples);
        self.families.push(family);
    }

    /// The page in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// A metric has no name.
    pub fn text(&self) -> Result<String, String> {
        TextEncoder::new().encode_to_string(&self.families).map_err(|error| error.to_string())
    }
}

/// The label of values of which each view has its own.
const VIEW: &str = "view";

fn pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

fn sample(metric: &Metric, labels: Vec<String>, value: f64) -> Sample {
    let pairs = metric.labels.iter().zip(labels).map(|(name, value)| pair(name, value));
    let mut sample = Sample::from_label(pairs.collect());
    match metric.kind {
        MetricKind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        }
        MetricKind::Gauge | MetricKind::Histogram => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
    }
    sample
}

/// A count as a page has it.
#[expect(clippy::cast_precision_loss, reason = "values of Prometheus are floats: exact up to 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_customs_of_prometheus() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(metric.name.chars().all(is_plain), "{}", metric.name);
            assert_eq!(metric.kind == MetricKind::Counter, metric.name.ends_with("_total"));
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if metric.kind == MetricKind::Histogram {
                assert!(metric.name.ends_with("_seconds"));
            }
        }
    }

    #[test]
    fn the_page_about_metrics_has_all_of_them_and_no_others() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows: Vec<_> =
            text.lines().filter(|line| line.starts_with("| `overlayfs_mount_")).collect();
        let row = |metric: &Metric| {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let teller = match metric.teller {
                Teller::Every => "mount, sync",
                Teller::View => "mount, each view",
                Teller::Mount => "mount",
                Teller::Views => "mount --views",
                Teller::Fetching => "sync, each view with --sync",
                Teller::Sync => "sync",
            };
            let (name, labels, help) =
                (metric.name, labels.join(", "), metric.help.trim_end_matches('.'));
            format!("| `{name}` | {kind} | {labels} | {teller} | {help} |")
        };
        let expected: Vec<_> = ALL.iter().map(row).collect();
        assert_eq!(rows, expected, "the table should be:\n{}", expected.join("\n"));
    }

    #[test]
    fn values_of_labels_are_escaped() {
        let mut page = Page::default();
        page.each(&REVISION, [(vec!["a\"b\\c\nd".to_owned()], 1.0)]);
        assert_eq!(
            page.text().unwrap(),
            "# HELP overlayfs_mount_revision_info The revision set that is shown; always 1.\n\
             # TYPE overlayfs_mount_revision_info gauge\n\
             overlayfs_mount_revision_info{revision=\"a\\\"b\\\\c\\nd\"} 1\n"
        );
    }
}
