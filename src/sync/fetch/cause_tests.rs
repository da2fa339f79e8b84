use super::FetchCause;
use super::remote::Remote;

fn cause(said: &str) -> FetchCause {
    let remote = Remote::parse("https://git.example/a/b.git").unwrap();
    FetchCause::of(said.as_bytes(), &remote, || true)
}

#[test]
fn what_git_says_becomes_a_cause() {
    let is = |said: &str, expected: fn(&FetchCause) -> bool| {
        let cause = cause(said);
        assert!(expected(&cause), "{said}: {cause:?}");
    };
    is(
        "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output",
        |cause| matches!(cause, FetchCause::DiskFull { .. }),
    );
    is("fatal: Authentication failed for 'https://git.example/a/b.git/'", |cause| {
        matches!(cause, FetchCause::NoAccess { had_token: true, .. })
    });
    is(
        "fatal: could not read Username for 'https://git.example': terminal prompts disabled",
        |cause| matches!(cause, FetchCause::NoAccess { .. }),
    );
    is(
        "remote: Repository not found.\nfatal: repository 'https://git.example/a/b.git/' not found",
        |cause| matches!(cause, FetchCause::NoRemote { .. }),
    );
    is(
        "fatal: unable to access 'https://git.example/': Could not resolve host: git.example",
        |cause| matches!(cause, FetchCause::Unreachable { .. }),
    );
    is(
        "fatal: unable to access 'https://git.example/': server certificate verification failed. CAfile: none",
        |cause| matches!(cause, FetchCause::Untrusted { .. }),
    );
    is(
        "git@git.example: Permission denied (publickey).\nfatal: Could not read from remote repository.",
        |cause| matches!(cause, FetchCause::NoKey { .. }),
    );
    is("Host key verification failed.\nfatal: Could not read", |cause| {
        matches!(cause, FetchCause::UnknownHost { .. })
    });
    is("fatal: couldn't find remote ref refs/heads/x", |cause| {
        matches!(cause, FetchCause::NoSuchRef { .. })
    });
    is("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", |cause| {
        matches!(cause, FetchCause::Unreachable { .. })
    });
    is(
        "error: object 5015697f: zeroPaddedFilemode\nfatal: fsck error in packed object\nfatal: fetch-pack: invalid index-pack output",
        |cause| matches!(cause, FetchCause::Malformed { .. }),
    );
    is("fatal: something new", |cause| matches!(cause, FetchCause::Other { .. }));
}

#[test]
fn a_remote_that_lacks_objects_is_damaged_and_its_progress_is_not_told() {
    let said = cause(
        "remote: Enumerating objects: 4355, done.\nremote: Counting objects:   1% (44/4355)\r\
         remote: fatal: unable to read 5015697f\n\
         remote: aborting due to possible repository corruption on the remote side.\n\
         fatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
    );
    assert!(matches!(said, FetchCause::Damaged { .. }), "{said:?}");
    assert!(said.to_string().contains("is damaged: remote: fatal: unable to read 5015697f"));
    assert!(!said.to_string().contains("objects:"), "{said}");
}

#[test]
fn a_remote_can_write_nothing_to_a_terminal() {
    let said = cause("remote: \u{1b}[31mred\nfatal: https://a:secret@h/ no").to_string();
    assert!(said.contains("\\x1b[31mred"), "{said}");
    assert!(!said.contains("secret") && !said.contains('\u{1b}'), "{said}");
}
