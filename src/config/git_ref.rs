//! Which texts may be refs.

/// Why `text` can name no branch, tag, full ref or full commit id; `None` if it may.
///
/// The rules are those of git-check-ref-format(1), and none of gitrevisions(7)'s expressions is allowed.
pub fn refusal(text: &str) -> Option<String> {
    if text.starts_with('-') {
        return Some("starts with `-`".to_owned());
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Some("holds a blank or a control character".to_owned());
    }
    for expression in ["~", "^", ":", "@{", "..", "?", "*", "[", "\\"] {
        if text.contains(expression) {
            return Some(format!("is a revision expression or a pattern: it holds `{expression}`"));
        }
    }
    if text == "@" {
        return Some("is a revision expression".to_owned());
    }
    let is_bad = |part: &str| {
        part.is_empty() || part.starts_with('.') || part.strip_suffix(".lock").is_some()
    };
    if text.ends_with('.') || text.split('/').any(is_bad) {
        return Some("is no name that git permits".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_refused_and_names_are_not() {
        for good in [
            "main",
            "v1.4.0",
            "1.10",
            "0012",
            "1e3",
            "refs/heads/a/b",
            "feature/x@y",
            "HEAD",
            "käse",
            "0123456789abcdef0123456789abcdef01234567",
        ] {
            assert_eq!(refusal(good), None, "{good}");
        }
        for bad in [
            "main~1", "main^", "a:b", "@{u}", "a..b", "-x", "a b", "a\nb", "@", "a?", "a*", "a[",
            "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.", "\u{7f}",
        ] {
            assert!(refusal(bad).is_some(), "{bad}");
        }
    }
}
