//! Where to listen, as a user writes it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::str::FromStr;

use thiserror::Error;

/// Where to listen: an address or a name of this machine, and a port. Without either name or address it is 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not an address to listen on; cure: {}", AddressError::CURE)]
pub struct AddressError {
    text: String,
}

impl AddressError {
    /// What to write.
    const CURE: &str = "write PORT for this machine only, as 9100; or HOST:PORT or [IPV6]:PORT, as 0.0.0.0:9100 for all who reach it";
}

impl Address {
    /// Whether only who has the privilege can listen there.
    pub fn is_privileged(&self) -> bool {
        (1..1024).contains(&self.port)
    }

    /// Takes the address; the first that can be had, where a name has several.
    pub(super) fn bind(&self) -> io::Result<TcpListener> {
        TcpListener::bind((self.host.as_str(), self.port))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { text: text.to_owned() };
        let (host, port) = match text.rsplit_once(':') {
            None => ("", text),
            Some((host, port)) => (host, port),
        };
        // Of a number, `parse` would take a sign too.
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) if host.parse::<Ipv6Addr>().is_ok() => host.to_owned(),
            None if host.is_empty() => Ipv4Addr::LOCALHOST.to_string(),
            None if is_name(host) => host.to_owned(),
            Some(_) | None => return Err(wrong()),
        };
        Ok(Self { host, port })
    }
}

/// A name of a machine, or an IPv4 address.
fn is_name(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_this_machine_only() {
        for (text, means) in [
            ("9100", "127.0.0.1:9100"),
            (":9100", "127.0.0.1:9100"),
            ("0", "127.0.0.1:0"),
            ("0.0.0.0:9100", "0.0.0.0:9100"),
            ("localhost:1", "localhost:1"),
            ("[::1]:65535", "[::1]:65535"),
            ("[::]:80", "[::]:80"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), means);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_one() {
        for text in [
            "",
            ":",
            "x",
            "65536",
            "+80",
            "*:80",
            "::1:80",
            "[::1]",
            "[x]:80",
            "a b:80",
            "http://x:80",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("cure: "), "{error}");
        }
    }
}
