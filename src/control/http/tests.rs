//! The HTTP server against clients that behave, that do not, and that say nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::*;
use crate::control::metrics::Page;
use crate::control::tally::Tally;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is well, not ready, and panics when it is asked for more than it has.
struct Fake;

impl Observed for Fake {
    fn metrics(&self) -> Page {
        let mut page = Page::new();
        Tally::default().write(&mut page);
        page
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn readiness(&self) -> Result<(), String> {
        Err("not yet".to_owned())
    }
}

/// Panics at each question but that for its health, and has a page of 16 MiB.
struct Clumsy;

impl Observed for Clumsy {
    fn metrics(&self) -> Page {
        let mut page = Page::new();
        let rows = (0..16).map(|_| (vec!["x".repeat(1 << 20)], 1.0));
        page.each(&crate::control::metrics::ENTRIES, rows);
        page
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn readiness(&self) -> Result<(), String> {
        panic!("for this test")
    }
}

fn start(observed: impl Observed) -> HttpServer {
    HttpServer::start(&"0".parse().unwrap(), Arc::new(observed)).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that is answered to these bytes.
fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    send(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
}

#[test]
fn what_is_asked_is_answered() {
    let server = start(Fake);
    let at = server.address();
    let health = get(at, "/healthz");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok\n"));
    assert_eq!(get(at, "/healthz?verbose"), health);
    assert_eq!(get(at, "http://somewhere:80/healthz"), health);
    let ready = get(at, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("\r\n\r\nnot yet\n"), "{ready}");
    let metrics = get(at, "/metrics");
    assert!(metrics.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(metrics.contains("\n# TYPE overlayfs_mount_flips_total counter\n"), "{metrics}");
    assert!(metrics.contains("\noverlayfs_mount_flip_duration_seconds_bucket{le=\"+Inf\"} 0\n"));
    for path in ["/", "", "/metrics/", "/healthz/x", "*"] {
        assert!(get(at, path).starts_with("HTTP/1.1 4"), "{path}");
    }
}

#[test]
fn a_head_has_the_same_fields_and_no_body() {
    let server = start(Fake);
    let head = send(server.address(), b"HEAD /healthz HTTP/1.1\r\n\r\n");
    assert_eq!(format!("{head}ok\n"), get(server.address(), "/healthz"));
}

#[test]
fn what_is_no_request_is_refused_and_nothing_else() {
    let server = start(Fake);
    let at = server.address();
    for (method, status) in [("POST", "405"), ("DELETE", "405"), ("GETT", "405")] {
        let answer = send(at, format!("{method} /healthz HTTP/1.1\r\n\r\n").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("Allow: GET, HEAD\r\n"), "{answer}");
    }
    let many = "a: b\r\n".repeat(100);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000));
    for (sent, status) in [
        ("\x16\x03\x01\0\x05hello\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nno field\r\n\r\n".to_owned(), "400"),
        ("GET /healthz\r\n\r\n".to_owned(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
        (long, "431"),
    ] {
        let answer = send(at, sent.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}: {answer}");
    }
    assert!(get(at, "/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_may_come_in_pieces_and_with_a_body() {
    let server = start(Fake);
    let mut stream = connect(server.address());
    for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r" {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(b"\nand much more").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[test]
fn many_who_say_nothing_do_not_keep_others_out() {
    let server = start(Fake);
    let at = server.address();
    let idle: Vec<_> = (0..200).map(|_| connect(at)).collect();
    let started = Instant::now();
    assert!(get(at, "/healthz").ends_with("ok\n"));
    assert!(started.elapsed() < PATIENCE);
    // Those who came first were sent away.
    let mut first = &idle[0];
    let end = first.read(&mut [0]);
    assert!(matches!(end, Ok(0) | Err(_)) && started.elapsed() < PATIENCE);
}

#[test]
fn one_who_stops_in_the_middle_is_cut_off() {
    let server = start(Fake);
    let mut stream = connect(server.address());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").unwrap();
    let started = Instant::now();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn one_who_does_not_read_keeps_nobody_waiting() {
    let server = start(Clumsy);
    let at = server.address();
    let mut slow = connect(at);
    slow.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap(), 1);
    assert!(get(at, "/healthz").ends_with("ok\n"));
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 16 << 20 && rest.ends_with(b"\"} 1\n"));
}

#[test]
fn a_panic_costs_one_answer() {
    let server = start(Clumsy);
    assert!(get(server.address(), "/readyz").starts_with("HTTP/1.1 500 "));
    assert!(get(server.address(), "/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_address_is_free_again_when_the_server_goes() {
    let server = start(Fake);
    let (at, address) = (server.address(), server.address().to_string().parse().unwrap());
    let _idle = connect(at);
    let error = HttpServer::start(&address, Arc::new(Fake)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("metrics cannot be served at `{at}`: ")));
    assert!(error.cure().unwrap().contains("another process listens there"), "{error}");
    drop(server);
    assert!(TcpStream::connect(at).is_err());
    let again = HttpServer::start(&address, Arc::new(Fake)).unwrap();
    assert!(get(again.address(), "/healthz").ends_with("ok\n"));
}
