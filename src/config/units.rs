//! Durations and sizes as users write them.

use std::time::Duration;

/// What durations look like, for messages.
pub const DURATION_CURE: &str = "write whole numbers with a unit, as `30s`, `1h30m` or `500ms`; units: `ms`, `s`, `m`, `h`, `d`";

/// What sizes look like, for messages.
pub(super) const SIZE_CURE: &str = "write a number of bytes, or a whole number with a unit, as `2GiB`, `64MB` or `512Mi`; \
     units: `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`";

/// A time that is as good as none: a hundred years. What is longer could not be added to the present time.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The duration that `text` names: whole numbers, each with a unit, or `0`; at most a hundred years.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let millis = match &after[..end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &after[end..];
    }
    Some(total.min(LONGEST))
}

/// The number of bytes that `text` names: a whole number, with a unit or without.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text.trim())?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "k" | "kB" | "KB" => 1000,
        "M" | "MB" => 1000_u64.pow(2),
        "G" | "GB" => 1000_u64.pow(3),
        "T" | "TB" => 1000_u64.pow(4),
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        "Ti" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("24h", Some(86_400_000)),
            ("500ms", Some(500)),
            ("1h30m", Some(5_400_000)),
            (" 2d ", Some(172_800_000)),
            ("0", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1s2", None),
            ("1 s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn durations_can_be_added_to_the_present_time() {
        // Together these are more seconds than a signed number holds.
        for text in ["18446744073709551615ms".repeat(600), "200000000000d".to_owned()] {
            let found = duration(&text).unwrap();
            assert!(std::time::Instant::now().checked_add(found).is_some(), "{text}");
            assert_eq!(found, LONGEST);
        }
        assert_eq!(duration("36499d"), Some(Duration::from_secs(36499 * 86400)));
    }

    #[test]
    fn sizes_take_bytes_and_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("2GiB", Some(2 << 30)),
            ("64MB", Some(64_000_000)),
            ("512Mi", Some(512 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("1.5GiB", None),
            ("GiB", None),
            ("-1", None),
            ("1e3", None),
            ("2gib", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
