//! What is answered to a request.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Observed;

/// The most bytes of a request before its body.
pub(super) const HEAD_MAX: usize = 8 * 1024;
/// The most header fields of a request.
const FIELDS_MAX: usize = 64;

/// An answer to one request, after which the connection ends.
#[derive(Debug, PartialEq, Eq)]
struct HttpAnswer {
    status: &'static str,
    content: &'static str,
    body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl HttpAnswer {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self { status, content: TEXT, body }
    }

    /// 200, or 503 with what is wrong.
    fn state(state: Result<(), String>) -> Self {
        match state {
            Ok(()) => Self::text("200 OK", "ok"),
            Err(reason) => Self::text("503 Service Unavailable", reason),
        }
    }

    fn bytes(&self, has_body: bool) -> Vec<u8> {
        let Self { status, content, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            body.len()
        );
        if has_body {
            bytes.push_str(body);
        }
        bytes.into_bytes()
    }
}

/// The answer to what a client has sent so far; `None` while that is no whole request. Of the body nothing is read.
pub(in crate::control) fn answer(sent: &[u8], observed: &dyn Observed) -> Option<Vec<u8>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let answer = match request.parse(sent) {
        Ok(httparse::Status::Complete(_)) => {
            let method = request.method.unwrap_or("");
            let answer = route(method, request.path.unwrap_or(""), observed);
            return Some(answer.bytes(method != "HEAD"));
        }
        Ok(httparse::Status::Partial) if sent.len() < HEAD_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            HttpAnswer::text("431 Request Header Fields Too Large", "the request is too long")
        }
        Err(error) => HttpAnswer::text("400 Bad Request", format!("this is no request: {error}")),
    };
    Some(answer.bytes(true))
}

fn route(method: &str, target: &str, observed: &dyn Observed) -> HttpAnswer {
    // A target may name scheme and host (RFC 9112, section 3.2.2).
    let after_host =
        target.strip_prefix("http://").map(|rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let path = after_host.unwrap_or(target).split(['?', '#']).next().unwrap_or("");
    let respond: fn(&dyn Observed) -> HttpAnswer = match path {
        "/metrics" => metrics,
        "/healthz" => |observed| HttpAnswer::state(observed.health()),
        "/readyz" => |observed| HttpAnswer::state(observed.readiness()),
        _ => return HttpAnswer::text("404 Not Found", "here are /metrics, /healthz and /readyz"),
    };
    if !matches!(method, "GET" | "HEAD") {
        return HttpAnswer::text("405 Method Not Allowed", "only GET and HEAD are answered");
    }
    // A panic costs this answer and no other.
    catch_unwind(AssertUnwindSafe(|| respond(observed))).unwrap_or_else(|_panic| {
        tracing::error!(path, "answering panicked; please report this");
        HttpAnswer::text("500 Internal Server Error", "the answer could not be made")
    })
}

fn metrics(observed: &dyn Observed) -> HttpAnswer {
    match observed.metrics().text() {
        Ok(body) => HttpAnswer {
            status: "200 OK",
            content: "text/plain; version=0.0.4; charset=utf-8",
            body,
        },
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written; please report this");
            HttpAnswer::text("500 Internal Server Error", "the metrics cannot be written")
        }
    }
}
