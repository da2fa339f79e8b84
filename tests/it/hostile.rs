//! Repositories that are broken or made to do harm, beside a good one: the good one is served, and of the others nothing but data or errors.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use crate::fixture::{Sandbox, can_mount, has_program};

/// Stands in files that no repository may lead to.
const SECRET: &str = "s3cr3t-outside-of-all-sources";

/// The most memory that a daemon had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Makes the hostile repositories as `bad/NAME` of the repo cache and gives their names.
fn make(sandbox: &Sandbox) -> Vec<String> {
    fs::create_dir_all(sandbox.path("secret")).unwrap();
    fs::write(sandbox.path("secret/secret"), format!("{SECRET}\n")).unwrap();
    fs::write(sandbox.path("make.py"), include_str!("hostile_repositories.py")).unwrap();
    let made =
        sandbox.shell("mkdir -p repos/bad; python3 make.py repos/bad $PWD/secret/secret $PWD/mark");
    made.lines().map(str::to_owned).collect()
}

/// Configures sources of these names, none required, and after them the good one.
fn configure(sandbox: &Sandbox, names: &[String]) {
    let mut sources = String::new();
    for name in names {
        writeln!(sources, "    - {{repo: bad/{name}, required: false}}").unwrap();
    }
    sandbox.configure(&(sources + "    - repo: acme/base"), "xattrs: true");
}

#[test]
fn s143_what_is_larger_than_the_limit_is_an_error_and_costs_only_itself() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.shell(
        "mkdir -p .agents/skills/large/many; cd .agents/skills/large
         echo good >small; head -c 2000000 /dev/urandom >random; (cat random; echo x) >difference
         head -c 80000000 /dev/zero >zeros
         cd many; seq -f n%06g 1 40000 | xargs touch",
    );
    repo.commit();
    repo.git(&["repack", "-adq"]);
    sandbox.configure("    - repo: acme/base", "");
    sandbox.edit(|text| text.replace("{dir: state}", "{dir: state, objectBytes: 1MiB}"));
    let mount = sandbox.mount_with(&["--log", "log"]);
    let read = sandbox.shell(
        "cd $VIEW/.agents/skills/large; stat -c %n:%s random zeros; cat small
         for file in random difference zeros; do cat $file 2>&1 | head -c 99; done
         ls many 2>&1 | head -c 99",
    );
    let (sizes, errors) = read.split_once("good\n").unwrap();
    assert_eq!(sizes, "random:2000000\nzeros:80000000\n");
    assert_eq!(errors.matches("Input/output error").count(), 4, "{errors}");
    assert!(peak_kib(mount.pid()) < 64 << 10, "the largest has 80 MB");
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    for name in ["random", "difference", "zeros", "many"] {
        let is_told = |line: &str| line.contains(name) && line.contains("`state.objectBytes`");
        assert!(log.lines().any(is_told), "{name}: {log}");
    }
    assert!(log.contains("has 80000000 bytes, and at most 1048576 are read"), "{log}");
    let check = sandbox.succeed(&["check"]);
    for name in ["random", "difference", "zeros", "many"] {
        assert!(check.contains(&format!("skills/large/{name} (object ")), "{name}: {check}");
    }
    mount.unmount();
}

#[test]
fn hostile_repositories_give_data_or_errors_and_harm_nobody() {
    if !can_mount() || !has_program("python3", "install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "good\n").commit();
    let names = make(&sandbox);
    assert!(names.len() >= 60, "{names:?}");
    configure(&sandbox, &names);
    let mount = sandbox.mount();
    let pid = mount.pid();
    for name in &names {
        let begun = Instant::now();
        // One of them has 2^30 paths, hence the depth. `head` ends what has no end, `timeout` in `shell_output` what hangs: that is a status of its own.
        let script = format!(
            "find $VIEW/bad/{name} $VIEW/.agents/skills/s-{name} 2>&1 | head -n 3000 | cat -v
             timeout 15 find $VIEW/bad/{name} -type f 2>/dev/null | head -n 200 | tr '\\n' '\\0' |
               xargs -0r head -qc 9000000 2>&1 | grep -ac {SECRET} || true
             timeout 15 find $VIEW/bad/{name} -maxdepth 12 -type l 2>/dev/null | head -n 200 | tr '\\n' '\\0' |
               xargs -0r readlink >/dev/null 2>&1 || true"
        );
        let output = sandbox.shell_output(&script);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {} {said}", output.status);
        assert_eq!(said.lines().last(), Some("0"), "{name} leads to the secret");
        let is_git = |line: &str| line.split('/').any(|part| part == ".git");
        assert!(!said.lines().any(is_git), "{name}: {said}");
        eprintln!("{name}: {:?}, {} KiB", begun.elapsed(), peak_kib(pid));
    }
    let good = "cat $VIEW/.agents/skills/review/SKILL.md $VIEW/acme/base/.agents/skills/*/SKILL.md";
    assert_eq!(sandbox.shell(good), "good\ngood\n");
    for name in names.iter().filter(|name| name.starts_with("name-") || name.starts_with("mode-")) {
        let beside = format!("cat $VIEW/bad/{name}/good $VIEW/.agents/skills/s-{name}/SKILL.md");
        assert_eq!(sandbox.shell(&beside), "good\ngood\n", "{name}");
    }
    assert_eq!(mount.pid(), pid);
    assert!(!sandbox.path("mark").exists(), "a repository had a program run");
    let peak = peak_kib(pid);
    assert!(peak < 256 << 10, "the daemon took {peak} KiB");
    mount.unmount();
}
