//! What a remote says that it has, which it says as it likes.

use std::fmt::Write;

use super::*;

/// A program that stands in for git: where that asks a remote, it says `says` (as `printf` takes it).
fn saying(fixture: &Fixture, says: &str) -> PathBuf {
    let path = fixture.path().join("saying-git");
    let script = format!("printf '{says}'; exit 0");
    let text =
        format!("#!/bin/sh\ncase \" $* \" in *' ls-remote '*) {script} ;; esac\nexec git \"$@\"\n");
    write_program(&path, &text);
    path
}

#[test]
fn a_default_branch_that_is_no_name_is_passed_over() {
    for name in ["-d", "refs/heads/*", "refs/heads/a:refs/heads/b", "refs/heads/..", "main"] {
        let fixture = Fixture::new();
        let up = one(&fixture);
        let main = up.commit(&[("a", "1")]);
        let says = format!(
            "ref: {name}\\tHEAD\\n{main}\\tHEAD\\n{main}\\t{name}\\n{main}\\trefs/heads/main\\n"
        );
        let git = saying(&fixture, &says);
        for git_ref in ["", ", ref: main"] {
            let config = config(&fixture, &format!("{{repo: acme/base, url: UP/up{git_ref}}}"));
            let report = round(&config, &RoundSettings { git: git.clone(), ..settings() }, &|_| {});
            let report = report.unwrap();
            assert_eq!(moved_to(&report), main, "{name} {git_ref}");
            let mirror = fixture.at("cache/private/acme/base.git");
            assert_eq!(mirror.git(&["rev-parse", "HEAD"]), main, "{name} {git_ref}");
            fs::remove_dir_all(&config.repo_cache.path).unwrap();
        }
    }
}

fn moved_to(report: &RoundReport) -> String {
    match moved(report, 0) {
        Moved::Cloned(now) | Moved::Unchanged(now) | Moved::Added(now) | Moved::From(_, now) => {
            now.to_string()
        }
    }
}

#[test]
fn names_that_are_none_are_not_proposed() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let main = up.commit(&[("a", "1")]);
    let says = format!("{main}\\trefs/heads/m\\033[2Jain\\n{main}\\trefs/heads/main\\n");
    let config = config(&fixture, "{repo: acme/base, url: UP/up, ref: mian}");
    let settings = RoundSettings { git: saying(&fixture, &says), ..settings() };
    let report = round(&config, &settings, &|_| {}).unwrap();
    let missing = cause(&report, 0);
    assert!(
        matches!(&missing, FetchCause::NoSuchRef { available, .. } if available == &["main"]),
        "{missing:?}"
    );
}

/// As a server of code reviews has them: their names alone are more than what is kept of what a program says.
#[test]
fn a_branch_is_found_behind_very_many_other_refs() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let main = up.commit(&[("a", "1")]);
    up.git(&["pack-refs", "--all"]);
    let name = "n".repeat(230);
    let mut refs = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for number in 0..250_000 {
        writeln!(refs, "{main} refs/changes/{number:06}/{name}").unwrap();
    }
    writeln!(refs, "{main} refs/heads/main").unwrap();
    fs::write(up.path.join(".git/packed-refs"), refs).unwrap();
    let config = config(&fixture, "{repo: acme/base, url: UP/up, ref: main}");
    assert_eq!(moved_to(&sync(&config)), main);
}
