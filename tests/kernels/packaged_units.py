#!/usr/bin/env python3
"""The step `systemd` of a machine that `run` starts: the packaged units under a real systemd, which is the machine's first process here.

`become_systemd` is called by the first process. systemd then runs this file as a service, and turns the machine off when that has ended.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
PROGRAM = Path("/usr/bin/overlayfs-mount")
UNITS = Path("/etc/systemd/system")
SETTINGS = Path("/etc/overlayfs-mount")
REPOS = Path("/srv/units/repos")
FILE, LIVE = ".agents/skills/review/SKILL.md", ".agents/skills/live/SKILL.md"
# Where each unit shows its views.
VIEWS = {"overlayfs-mount@one": ["/srv/units/one"], "overlayfs-mount-views": ["/srv/units/a", "/srv/units/b"]}
SERVICE = f"""[Unit]
Description=Checks of the packaged units
DefaultDependencies=no
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart={sys.executable} {Path(__file__).resolve()}
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""


def become_systemd():
    """Takes the place of the first process for good. Nothing but what is checked is started."""
    UNITS.mkdir(parents=True, exist_ok=True)
    (UNITS / "checks.service").write_text(SERVICE)
    os.execv("/lib/systemd/systemd", ["/lib/systemd/systemd", "--unit=checks.service", "--show-status=no"])


def result(name, outcome):
    print(f"\nRESULT systemd: {name} = {' '.join(str(outcome).split())[:400]}", flush=True)


def sh(script, seconds=600):
    done = subprocess.run(["sh", "-uc", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds, cwd="/")
    print(f"--- {script}\n{done.stdout}--- ends with {done.returncode}", flush=True)
    return done


def check(name, script, expect=""):
    """One outcome: `ok` if a script ends with 0 and prints what is expected."""
    done = sh(script)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    result(name, "ok" if done.returncode == 0 and expect in done.stdout else f"{last} ({done.returncode})")


def prepare():
    """What a package installs, and what its user writes."""
    shutil.copy2(TOP / "target/release/overlayfs-mount", PROGRAM)
    for unit in (TOP / "packaging/systemd/system").iterdir():
        shutil.copy2(unit, UNITS)
    os.environ.update(HOME="/root", GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
    sh(f"""git init -q -b main {REPOS}/acme/base && cd {REPOS}/acme/base && mkdir -p {Path(FILE).parent} && echo review > {FILE} && git add -A \
        && git -c user.name=a -c user.email=a@localhost commit -qm a""")
    live = Path("/srv/units/live/.agents/skills/live")
    live.mkdir(parents=True)
    (live / "SKILL.md").write_text("live\n")
    (SETTINGS / "views").mkdir(parents=True)
    for name, file in ("one", "one.yaml"), ("a", "views/a.yaml"), ("b", "views/b.yaml"):
        text = f"overlays: {{sources: [{{repo: acme/base}}, {{path: /srv/units/live}}]}}\nrepoCache: {{path: {REPOS}}}\nmount: {{at: /srv/units/{name}}}\n"
        (SETTINGS / file).write_text(text)
    sh("systemctl daemon-reload")


def show(unit, what):
    return subprocess.run(["systemctl", "show", "--value", "-p", what, unit], stdout=subprocess.PIPE, text=True).stdout.strip()


def killed(unit, views):
    """All processes of a unit are killed while files and directories are held: whether their holders, and others, can go on."""
    held = [os.open(f"{view}/{FILE}", os.O_RDONLY) for view in views]
    directories = [os.open(f"{view}/.agents/skills", os.O_RDONLY | os.O_DIRECTORY) for view in views]
    # Nothing of it is in the kernel's memory.
    Path("/proc/sys/vm/drop_caches").write_text("3")
    kept = show(unit, "NFileDescriptorStore")
    sh(f"systemctl kill --signal=KILL --kill-whom=all {unit}")
    # A reader that comes while nobody serves waits.
    check(f"{unit}: all are killed, readers meanwhile", " && ".join(f"timeout 300 cat {view}/{FILE}" for view in views), "review")
    end = time.time() + 300
    while time.time() < end and (show(unit, "NRestarts"), show(unit, "ActiveState")) != ("1", "active"):
        time.sleep(0.5)
    outcome = []
    for file, directory in zip(held, directories):
        try:
            outcome.append("ok" if os.pread(file, 100, 0) == b"review\n" and sorted(os.listdir(directory)) == ["live", "review"] else "reads something else")
        except OSError as error:
            outcome.append(error.strerror)
        for descriptor in file, directory:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    result(f"{unit}: all are killed, holders", "ok" if set(outcome) == {"ok"} else ", ".join(outcome))
    result(f"{unit}: descriptors that systemd keeps", "ok" if kept != "0" else kept)
    check(f"{unit}: readers after it", " && ".join(f"cat {view}/{FILE}" for view in views), "review")


def unit_works(unit, views):
    check(f"{unit}: start", f"systemctl start {unit} && " + " && ".join(f"cat {view}/{FILE}" for view in views), "review")
    check(f"{unit}: a live directory", " && ".join(f"cat {view}/{LIVE}" for view in views), "live")
    check(f"{unit}: status", " && ".join(f"{PROGRAM} status --check {view}" for view in views), "confined")
    killed(unit, views)
    change = f"cd {REPOS}/acme/base && echo review >> {FILE} && git -c user.name=a -c user.email=a@localhost commit -qam b"
    undo = f"git -C {REPOS}/acme/base reset -q --hard HEAD~1"
    wait = f"for i in $(seq 100); do [ $(wc -l < {views[-1]}/{FILE}) = 2 ] && break; sleep 0.2; done; wc -l < {views[-1]}/{FILE}; {undo}"
    check(f"{unit}: reload", f"{change} && systemctl reload {unit} && {wait}", "2")
    check(f"{unit}: stop", f"systemctl stop {unit} && ! grep overlayfs-mount /proc/self/mounts")
    result(f"{unit}: nothing is kept after it", "ok" if show(unit, "NFileDescriptorStore") == "0" else show(unit, "NFileDescriptorStore"))


def fetched():
    """What one unit clones into the repo cache, another shows."""
    (SETTINGS / "fetched.yaml").write_text(
        f"overlays: {{sources: [{{repo: acme/base, url: \"file://{REPOS}/acme/base\"}}, {{path: /srv/units/live}}]}}\nmount: {{at: /srv/units/fetched}}\n"
    )
    both = "overlayfs-mount-sync@fetched overlayfs-mount@fetched"
    check("the units that fetch and show", f"systemctl start {both} && cat /srv/units/fetched/{FILE} /srv/units/fetched/{LIVE}", "review\nlive")
    check("the units that fetch and show: stop", f"systemctl stop {both} && ! grep overlayfs-mount /proc/self/mounts")


def from_fstab():
    """A line of fstab, of which systemd makes a unit."""
    os.symlink(PROGRAM, "/usr/sbin/mount.overlayfs-mount")
    (SETTINGS / "line.yaml").write_text(f"overlays: {{sources: [{{repo: acme/base}}]}}\nrepoCache: {{path: {REPOS}}}\n")
    Path("/etc/fstab").write_text(f"{SETTINGS}/line.yaml /srv/units/line overlayfs-mount allow_other,nofail,_netdev 0 0\n")
    unit = "srv-units-line.mount"
    check("fstab: start", f"systemctl daemon-reload && systemctl start {unit} && cat /srv/units/line/{FILE}", "review")
    change = f"cd {REPOS}/acme/base && echo review >> {FILE} && git -c user.name=a -c user.email=a@localhost commit -qam c"
    check("fstab: a flip", f"{change} && {PROGRAM} reload /srv/units/line && wc -l < /srv/units/line/{FILE}; git reset -q --hard HEAD~1", "2")
    check("fstab: stop", f"systemctl stop {unit} && ! grep overlayfs-mount /proc/self/mounts && sleep 2 && ! pgrep -a overlayfs-mount")
    sh(f"journalctl --no-pager -u {unit}")


def of_a_user():
    """A view of an ordinary user's own, by that user's systemd."""
    shutil.copy2(TOP / "packaging/systemd/user/overlayfs-mount.service", "/etc/systemd/user")
    sh(f"useradd -m dev; chmod 666 /dev/fuse; install -d -o dev /home/dev/.config /home/dev/.config/overlayfs-mount; git -C {REPOS}/acme/base log --oneline")
    text = "overlays: {sources: [{path: /srv/units/live}]}\nmount: {at: /home/dev/view}\n"
    Path("/home/dev/.config/overlayfs-mount/overlays.yaml").write_text(text)
    check("a user's systemd", "systemctl start dbus systemd-logind && systemctl start user@$(id -u dev)")
    as_user = "setpriv --reuid dev --regid dev --init-groups env HOME=/home/dev XDG_RUNTIME_DIR=/run/user/$(id -u dev)"
    unit = f"{as_user} systemctl --user"
    read = f"{as_user} cat /home/dev/view/{LIVE}"
    check("a user's unit: start", f"{unit} start overlayfs-mount && {read}", "live")
    check("a user's unit: the worker is killed", f"kill -KILL $({as_user} {PROGRAM} status /home/dev/view --json | sed -n 's/^  \"pid\": \\([0-9]*\\),$/\\1/p') && {read}", "live")
    check("a user's unit: stop", f"{unit} stop overlayfs-mount && ! grep overlayfs-mount /proc/self/mounts")
    sh(f"journalctl --no-pager _UID=$(id -u dev) | tail -n 40; systemctl stop user@$(id -u dev)")


def main():
    try:
        prepare()
        for unit, views in VIEWS.items():
            try:
                unit_works(unit, views)
            finally:
                sh(f"journalctl --no-pager -u {unit}")
        fetched()
        sh("journalctl --no-pager -u 'overlayfs-mount*@fetched'")
        from_fstab()
        of_a_user()
        print("\nDONE\n", flush=True)
    except BaseException:
        traceback.print_exc()


if __name__ == "__main__":
    main()
