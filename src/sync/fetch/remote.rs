//! Where a repository is cloned from.

use std::fmt;

use super::cause::FetchCause;
use crate::config::Transport;
use crate::union::source::SourceName;

/// The host that repositories without `url` are cloned from, as on the platform.
const DEFAULT_HOST: &str = "https://github.com";

/// A URL that may be fetched from. Prints without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    url: String,
    transport: Transport,
}

impl Remote {
    /// Reads a URL as configured.
    ///
    /// # Errors
    /// It is of another protocol than https, ssh and file, or a relative path.
    pub(crate) fn parse(url: &str) -> Result<Self, FetchCause> {
        let refused = || FetchCause::Protocol { url: without_password(url) };
        let transport = Transport::of(url).ok_or_else(refused)?;
        Ok(Self { url: url.to_owned(), transport })
    }

    /// Where a repository is cloned from that has no `url`.
    ///
    /// # Errors
    /// Its name can be none there.
    pub(crate) fn by_default(repo: &SourceName) -> Result<Self, FetchCause> {
        let is_plain = |name: &[u8]| {
            let is_plain = |c: &u8| c.is_ascii_alphanumeric() || b"-_.".contains(c);
            name.iter().all(is_plain)
        };
        if !is_plain(repo.owner.as_bytes()) || !is_plain(repo.repo.as_bytes()) {
            return Err(FetchCause::NoUrl { repo: repo.to_string() });
        }
        Self::parse(&format!("{DEFAULT_HOST}/{repo}.git"))
    }

    /// The URL as git is given it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.url))
    }
}

/// A text with the password taken out of every URL in it.
pub(super) fn without_password(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let (authority, left) = after.split_at(authority_len(after));
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split(':').next().unwrap_or_default();
                clean.push_str(user);
                clean.push('@');
                clean.push_str(host);
            }
            None => clean.push_str(authority),
        }
        rest = left;
    }
    clean.push_str(rest);
    clean
}

/// The length of what stands before a host and of the host. A password may hold quotes; one with a slash makes no URL, and is to be hidden too.
fn authority_len(text: &str) -> usize {
    let text = text.split(char::is_whitespace).next().unwrap_or_default();
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let has_port = authority.split_once(':').is_none_or(|(_, port)| is_port(port));
    match text.rfind('@') {
        Some(at) if !has_port && !authority.contains('@') && !authority.starts_with('[') => at + 1,
        Some(_) | None => authority.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_url_the_platforms_host_is_asked() {
        let by_default = |text: &str| Remote::by_default(&SourceName::parse(text).unwrap());
        let remote = by_default("acme/tools").unwrap();
        assert_eq!(remote.url(), "https://github.com/acme/tools.git");
        assert!(matches!(by_default("acme/to ols"), Err(FetchCause::NoUrl { .. })));
    }

    #[test]
    fn passwords_are_never_printed() {
        let remote = Remote::parse("https://me:pa@ss@git.example/a").unwrap();
        assert_eq!(remote.to_string(), "https://me@git.example/a");
        for url in [
            "https://me:it's@h/a",
            "https://me:a\"b@h/a",
            "https://me:a`b@h/a",
            "https://me:a/b#c@h/a",
        ] {
            let remote = Remote::parse(url).unwrap();
            assert_eq!(remote.to_string(), "https://me@h/a", "{url}");
        }
        assert_eq!(
            without_password("fatal: 'https://x:y@h/a' and ssh://z@h: no"),
            "fatal: 'https://x@h/a' and ssh://z@h: no"
        );
        for same in ["https://h:80/@a/b", "'https://h': a@b", "https://[::1]/@a", "ssh://h/a: x@y"]
        {
            assert_eq!(without_password(same), same);
        }
    }
}
