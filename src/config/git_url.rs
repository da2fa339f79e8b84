//! Which URLs are cloned from.

/// How a remote is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TLS; with scheme, host and port, and whether the URL names a user.
    Https {
        /// Scheme, host and port.
        origin: String,
        /// Whether the URL names a user.
        has_user: bool,
    },
    /// The `ssh` program.
    Ssh,
    /// A repository of this machine.
    File,
}

impl Transport {
    /// How the remote of a URL is spoken to; `None` for one of another protocol than https, ssh and file, or a relative path.
    pub fn of(url: &str) -> Option<Self> {
        if url.starts_with('-') || url.chars().any(char::is_control) {
            return None;
        }
        match url.split_once("://") {
            Some(("https", rest)) => {
                let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
                let is_host = !host.is_empty() && !host.contains('=');
                let (origin, has_user) = (format!("https://{host}"), !user.is_empty());
                is_host.then_some(Self::Https { origin, has_user })
            }
            Some(("ssh", _)) => Some(Self::Ssh),
            Some(("file", path)) if path.starts_with('/') => Some(Self::File),
            Some(_) => None,
            None if url.starts_with('/') => Some(Self::File),
            // As scp has it: a colon before any slash, and not two, which is git's way to name a helper program.
            None => {
                let (host, path) = url.split_once(':')?;
                let is_host = !host.is_empty() && !host.contains('/');
                (is_host && !path.is_empty() && !path.starts_with(':')).then_some(Self::Ssh)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_ssh_and_file_are_spoken() {
        for good in [
            "https://git.example/a/b.git",
            "https://git.example:8443/a",
            "ssh://git@git.example/a",
            "git@git.example:a/b.git",
            "file:///srv/a.git",
            "/srv/a.git",
        ] {
            assert!(Transport::of(good).is_some(), "{good}");
        }
        for bad in [
            "http://git.example/a",
            "git://git.example/a",
            "ext::sh -c true",
            "fd::7",
            "../a",
            "a/b",
            "file://host/a",
            "HTTPS://git.example/a",
            "https:///a",
            "-oProxyCommand=x:y",
            "",
        ] {
            assert_eq!(Transport::of(bad), None, "{bad}");
        }
    }
}
