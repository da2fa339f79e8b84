//! The texts that people read, whole: a change of one is a change of this file.

use crate::fixture::{Sandbox, can_mount};

/// Both streams and the exit status of a command, with the sandbox's own path left out.
fn say(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let output = sandbox.overlay(arguments).output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        text.push_str("2> ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("exit ");
    text.push_str(&output.status.code().unwrap().to_string());
    let real = sandbox.path("").canonicalize().unwrap();
    let named = sandbox.path("");
    for path in [real.to_str().unwrap(), named.to_str().unwrap().trim_end_matches('/')] {
        text = text.replace(path, "[sandbox]");
    }
    text
}

/// Two sources with one of everything that is worth a word.
fn sources(sandbox: &Sandbox) {
    let base = sandbox.repo("acme/base");
    base.package("tools/productivity/slack", "base")
        .package("tools/search", "base")
        .skill("review", "base\n")
        .skill("plan", "plan\n")
        .write("prompt.md", "base\n");
    base.write(
        "model.bin",
        format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n",
            "ab".repeat(32)
        ),
    );
    base.commit();
    sandbox
        .repo("acme/team")
        .package("tools/slack", "team")
        .skill("review", "team\n")
        .write("workflows", "a file\n")
        .commit();
    sandbox.configure(
        "    - {repo: acme/base, ref: main, visibility: public, promptPath: prompt.md}\n    \
         - repo: acme/team\n    - {repo: acme/gone, required: false}",
        "",
    );
}

#[test]
fn help_lists_the_commands_and_the_exit_statuses() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(say(&sandbox, &["--help"]), @r"
    Mount a read-only union view of ordered git sources

    Usage: overlayfs-mount <COMMAND>

    Commands:
      mount        Mount the view; returns when it can be read
      unmount      Unmount a view; returns when it is gone and its daemon has ended
      check        Check configuration and sources, and show what hides what; mounts nothing
      ls           List the entries, each with its source, revision and what it hides
      explain      Say why a path shows what it shows, or nothing
      diff         Say which entries another configuration or other refs would change; mounts nothing
      export       Write the same tree as plain files, put in place atomically
      status       Show what is mounted, from which revisions, and what is wrong
      reload       Read configuration and refs anew; returns when every new look-up sees the result
      upgrade      Have the program that is now on disk take over a view that was mounted with
                   `--supervised`
      exec         Run a command with the view mounted for it alone: no root, no fusermount3
      pass         Mount for a daemon that has no privileges, and hand it the descriptor over a socket
      env          Print the variables by which the platform's programs find what a view shows
      wait         Wait until the sources can be read, or a view is mounted and can be read
      sync         Clone and fetch the sources into the repo cache
      doctor       Check this machine for what would stop a mount, and say what to do about it
      demo         Show how it works, without any file: mount samples, update one, and unmount
      config       Print the schema of the configuration file
      completions  Print a completion script for a shell
      man          Print the manual: the page of the program, or of a subcommand

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Exit status: 0 done, 1 failed, 2 usage or configuration.
    exit 0
    ");
}

#[test]
fn help_of_a_command_lists_its_options() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(say(&sandbox, &["mount", "--help"]), @r"
    Mount the view; returns when it can be read

    Usage: overlayfs-mount mount [OPTIONS] [MOUNTPOINT]

    Arguments:
      [MOUNTPOINT]  Where to mount (default: `mount.at` of the configuration), or `/dev/fd/N` as for
                    `--fuse-fd`

    Options:
      -c, --config <FILE>       The configuration file (default: `overlays.yaml` here, else the user's,
                                else the machine's)
          --values <FILE>       A Helm values file of the platform, in place of a configuration file
          --source <SPEC>       A source, without any file: PATH, or `owner/repo[@REF]`; repeat it, the
                                last is on top
          --views <DIR>         Serve many views: each `*.yaml` of this directory is the configuration
                                of one, at its `mount.at`
          --fuse-fd <N>         Serve a mount that was made already: its descriptor of /dev/fuse
          --fuse-socket <PATH>  Serve a mount that `pass` makes: the path of its socket
      -f, --foreground          Stay in the foreground
          --sync                Clone and fetch the sources into the repo cache while mounted
          --pin                 Keep showing the revision set of the start: later changes are not
                                followed
          --supervised          Have a second process keep the mount: if the one that serves it dies,
                                another takes over, and nobody gets an error
          --metrics <ADDR>      Serve metrics and health over HTTP: PORT for this machine only,
                                HOST:PORT or `[IPV6]:PORT` (default: `$OVERLAYFS_MOUNT_METRICS`, else
                                nowhere)
      -o, --options <OPT,...>   Mount options, as mount(8) gives them: allow_other, noexec, uid=N,
                                gid=N, links=all|inside, xattrs, nosources, pin, supervised,
                                passthrough, access=all|public|none, context=CONTEXT, fscontext=CONTEXT,
                                rootcontext=CONTEXT, metrics=ADDR, or log=FILE
          --log <FILE>          Write the log to this file
          --log-format <KIND>   What the log looks like: auto, text, json or journald [default: auto]
      -h, --help                Print help
    exit 0
    ");
    insta::assert_snapshot!(say(&sandbox, &["check", "-h"]), @r"
    Check configuration and sources, and show what hides what; mounts nothing

    Usage: overlayfs-mount check [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file (default: `overlays.yaml` here, else the user's, else
                           the machine's)
          --values <FILE>  A Helm values file of the platform, in place of a configuration file
          --source <SPEC>  A source, without any file: PATH, or `owner/repo[@REF]`; repeat it, the last
                           is on top
          --lint           Look into skills, workflows and tools for what fails where they are used;
                           exit 1 if there is any
          --json           Print one JSON document
      -h, --help           Print help
    exit 0
    ");
}

#[test]
fn wrong_usage_is_said_with_what_is_right() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(say(&sandbox, &["mont"]), @r"
    2> error: unrecognized subcommand 'mont'
    2> 
    2>   tip: some similar subcommands exist: 'man', 'mount'
    2> 
    2> Usage: overlayfs-mount <COMMAND>
    2> 
    2> For more information, try '--help'.
    exit 2
    ");
    insta::assert_snapshot!(say(&sandbox, &["check", "-c", "nowhere.yaml"]), @r"
    2> error: nowhere.yaml: cannot be read: No such file or directory (os error 2)
    2>   cure: create the file, or name another one
    exit 2
    ");
    sources(&sandbox);
    insta::assert_snapshot!(say(&sandbox, &["ls", "tool"]), @r"
    2> error: there is no surface `tool`
    2>   cure: did you mean `tools`? surfaces: tools, workflows, skills, personas, prompts
    exit 2
    ");
    insta::assert_snapshot!(say(&sandbox, &["mount", "-o", "rw,allow_root"]), @r"
    2> error: mount option `allow_root` is not known
    2>   cure: use allow_other, noexec, uid=N, gid=N, links=all|inside, xattrs, nosources, pin, supervised, passthrough, access=all|public|none, context=CONTEXT, fscontext=CONTEXT, rootcontext=CONTEXT, metrics=ADDR, or log=FILE
    exit 2
    ");
    insta::assert_snapshot!(say(&sandbox, &["explain", "../x"]), @r"
    2> error: `../x` has a `.` or `..` component
    2>   cure: give a path relative to the root of the view, or one below its mount point
    exit 2
    ");
    insta::assert_snapshot!(say(&sandbox, &["unmount", "view"]), @r"
    2> error: no view is mounted on `[sandbox]/view`
    2>   cure: `overlayfs-mount status` lists what is mounted
    exit 1
    ");
    insta::assert_snapshot!(say(&sandbox, &["status", "view"]), @r"
    2> error: no view is mounted on `[sandbox]/view`
    2>   cure: overlayfs-mount mount
    exit 1
    ");
}

#[test]
fn check_tells_all_that_a_mount_would_show() {
    let sandbox = Sandbox::new();
    sources(&sandbox);
    insta::assert_snapshot!(say(&sandbox, &["check"]), @r"
    configuration  [sandbox]/overlays.yaml
    revision set   62b5c0c0dbe982502df284a5450efe99fa23bb8705b1a4bba6cadbee91e3df4c

    SOURCE     REF   REVISION      VISIBILITY  STATE    PLACE
    acme/base  main  b878a8c042a4  public      ready    [sandbox]/repos/acme/base
    acme/team  HEAD  c27b4dd3af08  private     ready    [sandbox]/repos/acme/team
    acme/gone  HEAD  -             private     missing  [sandbox]/repos/private/acme/gone

    SURFACE    AT              ENTRIES  HIDDEN
    tools      tools           2        1
    workflows  workflows       0        0
    skills     .agents/skills  2        1
    personas   personas        0        0
    prompts    prompts         1        0

    tools/slack of acme/team hides that of acme/base at tools/productivity/slack
    .agents/skills/review of acme/team hides that of acme/base

    warning: source `acme/gone`: not found; tried `[sandbox]/repos/private/acme/gone` (does not exist), `[sandbox]/repos/acme/gone` (does not exist), `[sandbox]/repos/private/acme/gone.git` (does not exist), `[sandbox]/repos/acme/gone.git` (does not exist)
      cure: put it at `[sandbox]/repos/private/acme/gone`, or correct its place (overlays.yaml:5)
    note: source acme/team: workflows: is a file: nothing of it is shown on its surface
    note: source acme/base: model.bin: LFS pointer, shown as the pointer
    exit 0
    ");
}

#[test]
fn check_tells_every_source_that_stops_a_mount() {
    let sandbox = Sandbox::new();
    sources(&sandbox);
    sandbox.configure(
        "    - {repo: acme/base, ref: mian}\n    - repo: acme/gone\n    - path: ./nowhere",
        "",
    );
    insta::assert_snapshot!(say(&sandbox, &["check"]), @r"
    2> error: source `acme/base`: ref `mian` is not in `[sandbox]/repos/acme/base`
    2>   cure: set `ref` (overlays.yaml:3) to one of: main
    2> error: source `acme/gone`: not found; tried `[sandbox]/repos/private/acme/gone` (does not exist), `[sandbox]/repos/acme/gone` (does not exist), `[sandbox]/repos/private/acme/gone.git` (does not exist), `[sandbox]/repos/acme/gone.git` (does not exist)
    2>   cure: put it at `[sandbox]/repos/private/acme/gone`, correct its place (overlays.yaml:4), or set `required: false`
    2> error: source `local/nowhere`: directory `[sandbox]/nowhere`: No such file or directory (os error 2)
    2>   cure: create `[sandbox]/nowhere`, or correct `path` (overlays.yaml:5)
    exit 1
    ");
}

#[test]
fn ls_is_a_table() {
    let sandbox = Sandbox::new();
    sources(&sandbox);
    insta::assert_snapshot!(say(&sandbox, &["ls"]), @r"
    PATH                      SOURCE     REVISION      HIDES
    tools/search              acme/base  b878a8c042a4
    tools/slack               acme/team  c27b4dd3af08  acme/base (tools/productivity/slack)
    .agents/skills/plan       acme/base  b878a8c042a4
    .agents/skills/review     acme/team  c27b4dd3af08  acme/base
    prompts/00-acme__base.md  acme/base  b878a8c042a4
    exit 0
    ");
}

#[test]
fn explain_tells_winners_hidden_ones_and_absence() {
    let sandbox = Sandbox::new();
    sources(&sandbox);
    insta::assert_snapshot!(say(&sandbox, &["explain", "tools/slack/main.py"]), @r"
    tools/slack/main.py comes from acme/team
      ref       HEAD
      revision  c27b4dd3af08
      path      tools/slack/main.py
      entry     tools/slack
      surface   tools
      hidden    tools/productivity/slack of acme/base (tools/productivity/slack), by tools/slack of acme/team: package of the same name
    exit 0
    ");
    insta::assert_snapshot!(say(&sandbox, &["explain", "tools/productivity/slack"]), @r"
    tools/productivity/slack shows nothing: it is hidden
      surface   tools
      hidden    tools/productivity/slack of acme/base (tools/productivity/slack), by tools/slack of acme/team: package of the same name
    exit 0
    ");
    insta::assert_snapshot!(say(&sandbox, &["explain", ".agents/skills"]), @r"
    .agents/skills is a merged directory of acme/base, acme/team
      surface   skills
      hidden    .agents/skills/review of acme/base (.agents/skills/review), by .agents/skills/review of acme/team: same name
    exit 0
    ");
    insta::assert_snapshot!(say(&sandbox, &["explain", ".agents/skills/none"]), @r"
    .agents/skills/none shows nothing: no source has such an entry; `.agents/skills` is the last part that exists
      surface   skills
    exit 0
    ");
}

#[test]
fn status_tells_the_view_and_its_sources() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    insta::assert_snapshot!(say(&sandbox, &["status"]), @r"
    nothing is mounted
    exit 0
    ");
    sources(&sandbox);
    let mount = sandbox.mount_pinned();
    let json = sandbox.succeed(&["status", "view", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = say(&sandbox, &["status", "--check"])
        .replace(&status["pid"].to_string(), "[pid]")
        .replace(status["since"].as_str().unwrap(), "[since]");
    insta::assert_snapshot!(text, @r"
    [sandbox]/view  degraded
      configuration  [sandbox]/overlays.yaml
      revision set   62b5c0c0dbe9 since [since]
      process        [pid]

      SOURCE     REF   REVISION      VISIBILITY  STATE    PINNED  ERROR
      acme/base  main  b878a8c042a4  public      ready    yes
      acme/team  HEAD  c27b4dd3af08  private     ready    yes
      acme/gone  HEAD  -             private     missing  -       since [since]: source `acme/gone`: not found; tried `[sandbox]/repos/private/acme/gone` (does not exist), `[sandbox]/repos/acme/gone` (does not exist), `[sandbox]/repos/private/acme/gone.git` (does not exist), `[sandbox]/repos/acme/gone.git` (does not exist)
      cure for `acme/gone`: put it at `[sandbox]/repos/private/acme/gone`, or correct its place (overlays.yaml:5)
    exit 1
    ");
    mount.unmount();
}
