//! Any bytes as what clients send.

use super::http::{Observed, answer};
use super::metrics::Page;
use super::protocol::ControlRequest;

/// Reads bytes as a line on the control socket.
///
/// # Panics
/// What must hold of the answer does not.
pub fn request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<ControlRequest>(bytes) else { return };
    let line = serde_json::to_vec(&request).expect("a request is text");
    assert!(!line.contains(&b'\n'), "a request is one line");
    assert_eq!(serde_json::from_slice::<ControlRequest>(&line).ok(), Some(request));
}

/// Reads bytes as an HTTP request: as they come, one by one as long as that is quick, and all at once.
///
/// # Panics
/// What must hold of the answer does not.
pub fn http(bytes: &[u8]) {
    let whole = answer(bytes, &Well);
    if let Some(answer) = &whole {
        let text = std::str::from_utf8(answer).expect("an answer is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
        let is_head = bytes.trim_ascii_start().starts_with(b"HEAD ");
        assert!(body.len() == length || is_head && body.is_empty(), "{text}");
    }
    let first = (0..bytes.len().min(256)).find_map(|len| answer(&bytes[..len], &Well));
    if let Some(first) = first {
        // What comes later changes nothing of an answer that was given, the page's numbers apart.
        let status = |answer: &[u8]| answer.get(..12).map(<[u8]>::to_vec);
        assert_eq!(whole.as_deref().and_then(status), status(&first));
    }
}

/// A process that is well.
struct Well;

impl Observed for Well {
    fn metrics(&self) -> Page {
        Page::default()
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn readiness(&self) -> Result<(), String> {
        Err("not yet".to_owned())
    }
}
