//! What a broker refuses, told to it without a worker.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// What a broker is told, in a directory of its own.
struct Told {
    directory: tempfile::TempDir,
    broker: Broker,
}

impl Told {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        for name in ["views", "run", "run/base", "state", "cache", "at"] {
            fs::create_dir(real.join(name)).unwrap();
        }
        let plan = ViewsPlan::sample(&real.join("views"));
        let broker = Broker::new(plan, &real.join("run"), real.join("run/base")).unwrap();
        Self { directory, broker }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// Writes a view that is to be seen there.
    fn view(&self, name: &str, at: &str) {
        let text = format!(
            "overlays: {{sources: []}}\nrepoCache: {{path: ../cache}}\nstate: {{dir: ../state}}\nmount: {{at: {at}}}\n"
        );
        fs::write(self.at("views").join(name), text).unwrap();
    }

    /// Has a view keep its state there.
    fn move_state(&self, name: &str, to: &str) {
        let file = self.at("views").join(name);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("../state}", &format!("{to}}}"))).unwrap();
    }

    /// Asks to have a view bound there, from a superblock that there is not.
    fn bind(&mut self, name: &str, at: &Path) -> String {
        let request = Request::Bind { number: 1, name: name.into(), at: at.to_owned() };
        self.refused(&request)
    }

    fn refused(&mut self, request: &Request) -> String {
        match self.broker.answer(request) {
            (Reply::Refused { message, .. }, None) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// What a superblock is refused with that there is not: all else was in order.
const NO_SUPERBLOCK: &str = "run/base/1";

#[test]
fn s122_a_view_is_bound_where_its_file_says_and_nowhere_else() {
    let mut told = Told::new();
    told.view("one.yaml", "../at/one");
    let at = told.at("at/one");
    let said = told.bind("one.yaml", &at);
    assert!(said.contains(NO_SUPERBLOCK), "{said}");
    assert!(!at.exists(), "what was made for it goes with it");
    for other in ["at/two", "at", "etc", "at/one/../one"] {
        let said = told.bind("one.yaml", &told.at(other));
        assert!(said.contains("its mount point is"), "{other}: {said}");
    }
    // What the file says now counts.
    told.view("one.yaml", "../at/other");
    assert!(told.bind("one.yaml", &at).contains("its mount point is"));
}

#[test]
fn s122_what_is_no_view_of_this_daemon_is_refused() {
    let mut told = Told::new();
    told.view("one.yaml", "../at/one");
    told.view(".hidden.yaml", "../at/one");
    told.view("other.txt", "../at/one");
    fs::copy(told.at("views/one.yaml"), told.at("foreign.yaml")).unwrap();
    let (at, foreign) = (told.at("at/one"), told.at("foreign.yaml"));
    for name in
        ["../foreign.yaml", foreign.to_str().unwrap(), ".hidden.yaml", "other.txt", "", ".."]
    {
        let requests = [
            Request::Bind { number: 1, name: name.into(), at: at.clone() },
            Request::Mount { number: 1, name: name.into() },
            Request::Unbind { name: name.into() },
        ];
        for request in requests {
            let said = told.refused(&request);
            assert!(said.contains("is no file of"), "{request:?}: {said}");
        }
    }
    assert!(told.bind("none.yaml", &at).contains("none.yaml"));
    assert!(told.refused(&Request::TakeAway { number: 7 }).contains("run/base/7"));
    assert!(told.refused(&Request::Abort { connection: u32::MAX }).contains("run/base"));
}

#[test]
fn s122_nothing_is_mounted_through_what_a_worker_may_change() {
    let mut told = Told::new();
    // By way of a view's state, of another view's, and of the run directory: once it was open to a worker it stays so.
    told.view("other.yaml", "../at/other");
    let said = told.bind("other.yaml", &told.at("at/other"));
    assert!(said.contains(NO_SUPERBLOCK), "{said}");
    fs::remove_file(told.at("views/other.yaml")).unwrap();
    symlink(told.at("at"), told.at("state/link")).unwrap();
    symlink(told.at("state/link"), told.at("elsewhere")).unwrap();
    let places = ["../state/x", "../state/link/x", "../elsewhere/x", "../run/x"];
    for at in places {
        told.view("one.yaml", at);
        told.move_state("one.yaml", "../fresh");
        let said = told.bind("one.yaml", &told.at("at/x"));
        assert!(said.contains("is in reach of the process that serves"), "{at}: {said}");
    }
    // A file that a worker may write to says what it likes.
    fs::write(told.at("cache/file.yaml"), fs::read(told.at("views/one.yaml")).unwrap()).unwrap();
    symlink("../cache/file.yaml", told.at("views/linked.yaml")).unwrap();
    let said = told.bind("linked.yaml", &told.at("run/x"));
    assert!(said.contains("linked.yaml` is in reach"), "{said}");
}

#[test]
fn s122_what_comes_after_a_file_was_read_is_open_to_workers_too() {
    let mut told = Told::new();
    told.view("other.yaml", "../at/other");
    told.move_state("other.yaml", "../late");
    assert!(told.bind("other.yaml", &told.at("at/other")).contains(NO_SUPERBLOCK));
    fs::create_dir(told.at("late")).unwrap();
    told.view("one.yaml", "../late/one");
    let said = told.bind("one.yaml", &told.at("late/one"));
    assert!(said.contains("is in reach of the process that serves"), "{said}");
}

#[test]
fn s122_what_stands_in_the_place_of_a_superblock_is_not_bound() {
    let mut told = Told::new();
    told.view("one.yaml", "../at/one");
    fs::create_dir_all(told.at("secret/one.yaml")).unwrap();
    fs::create_dir_all(told.at("run/base/1/one.yaml")).unwrap();
    let at = told.at("at/one");
    let said = told.bind("one.yaml", &at);
    assert!(said.contains("run/base/1`"), "another file system: {said}");
    fs::remove_dir_all(told.at("run/base/1")).unwrap();
    symlink(told.at("secret"), told.at("run/base/1")).unwrap();
    let said = told.bind("one.yaml", &at);
    assert!(said.contains("symbolic link"), "{said}");
    fs::rename(told.at("run/base"), told.at("run/away")).unwrap();
    symlink(told.at("secret"), told.at("run/base")).unwrap();
    let mount = Request::Mount { number: 2, name: "one.yaml".into() };
    for request in [mount, Request::TakeAway { number: 2 }] {
        let said = told.refused(&request);
        assert!(said.contains("run/base"), "{said}");
    }
    assert!(matches!(told.broker.answer(&Request::Clear { but: vec![] }), (Reply::Done, None)));
    let left = fs::read_dir(told.at("secret")).unwrap().count();
    assert_eq!(left, 1, "nothing was made there, or removed");
}
