"""Runs what the charts render, as a kubelet would: each container in a mount name space and a root of its own, with its volumes, their
propagation, its user and its capabilities. A real mount, no cluster.

Run by checks.py in a mount and process name space of its own, which ends with it. Standard input: a JSON list of rendered documents.
"""

import faulthandler
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

PROGRAM = os.environ["PROGRAM"]
PATIENCE = 30
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/passwd", "/etc/ssl", "/proc", "/dev"]
PROPAGATION = {"Bidirectional": "rshared", "HostToContainer": "rslave", None: "rprivate"}


def shell(script, **more):
    subprocess.run(["sh", "-euc", script], check=True, **more)


def until(what, attempt):
    deadline = time.monotonic() + PATIENCE
    while not attempt():
        assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what}"
        time.sleep(0.02)


class Machine:
    """A node: volumes below a shared mount, roots of containers below one that nobody else sees."""

    def __init__(self):
        # Everything here is gone with the name space.
        shell("mount -t tmpfs node /mnt && mkdir /mnt/roots /mnt/node && mount -t tmpfs roots /mnt/roots && mount -t tmpfs node /mnt/node && mount --make-private /mnt/roots && mount --make-shared /mnt/node")
        # As a runtime hands it out: some machines keep their own from users.
        shell("mknod -m 666 /mnt/fuse c 10 229")
        self.node = pathlib.Path("/mnt/node")
        self.roots = 0

    def root(self):
        self.roots += 1
        return f"/mnt/roots/{self.roots}"

    def mounts(self):
        return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if " /mnt/node/" in line and "fuse.overlayfs-mount" in line]


class Pod:
    def __init__(self, machine, name, spec, documents):
        self.machine, self.name, self.spec = machine, name, spec
        self.volumes = {}
        for volume in spec["volumes"]:
            path = machine.node / "pods" / name / volume["name"]
            if "hostPath" in volume:
                path = machine.node / "host" / volume["hostPath"]["path"].lstrip("/")
            path.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                path.chmod(0o777)
            if "configMap" in volume:
                (config,) = [d for d in documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == volume["configMap"]["name"]]
                for key, text in config["data"].items():
                    (path / key).write_text(text)
            self.volumes[volume["name"]] = path

    def container(self, name):
        (spec,) = [c for c in self.spec.get("initContainers", []) + self.spec["containers"] if c["name"] == name]
        return Container(self, spec)


class Container:
    def __init__(self, pod, spec):
        self.pod, self.spec, self.root, self.process = pod, spec, pod.machine.root(), None
        # As Kubernetes does: what the container says counts before what the pod says.
        self.context = {**pod.spec.get("securityContext", {}), **spec.get("securityContext", {})}

    def script(self, command, extra=()):
        root = self.root
        lines = [f"mkdir -p {root}", f"mount -t tmpfs root {root}"]
        for path in SYSTEM:
            if os.path.islink(path):
                lines.append(f"cp -P {path} {root}{path}")
            elif os.path.isdir(path):
                lines.append(f"mkdir -p {root}{path} && mount --rbind {path} {root}{path} && mount --make-rslave {root}{path}")
            elif os.path.exists(path):
                lines.append(f"mkdir -p {root}{os.path.dirname(path)} && cp {path} {root}{path}")
        lines.append(f"mount --bind /mnt/fuse {root}/dev/fuse")
        lines.append(f"mkdir {root}/program && touch {root}/program/overlayfs-mount && mount --bind {PROGRAM} {root}/program/overlayfs-mount")
        mounts = [(m["mountPath"], self.pod.volumes[m["name"]], PROPAGATION[m.get("mountPropagation")], m.get("readOnly")) for m in self.spec["volumeMounts"]]
        mounts += [(path, source, "rprivate", True) for path, source in extra]
        for path, source, propagation, is_read_only in sorted(mounts):
            lines.append(f"mkdir -p {root}{path} && mount --rbind {source} {root}{path} && mount --make-{propagation} {root}{path}")
            if is_read_only:
                lines.append(f"mount -o remount,bind,ro {root}{path}")
        # No chroot: in one there are no user name spaces. The old root is a slave when it goes, or its mounts went everywhere.
        lines.append(f"mkdir {root}/old && pivot_root {root} {root}/old && cd / && mount --make-rslave /old && umount -l /old && rmdir /old")
        if self.context.get("readOnlyRootFilesystem"):
            lines.append("mount -o remount,ro /")
        return "\n".join([*lines, f"exec {shlex.join(self.confined(command))}"])

    def confined(self, command):
        context = self.context
        assert not (context.get("runAsNonRoot") and context.get("runAsUser", 0) == 0), "the kubelet refuses root here"
        wrapped = ["setpriv"]
        if "runAsUser" in context:
            wrapped += ["--reuid", str(context["runAsUser"]), "--regid", str(context.get("runAsGroup", 0)), "--clear-groups"]
        if context.get("capabilities", {}).get("drop") == ["ALL"]:
            wrapped += ["--bounding-set=-all", "--inh-caps=-all"]
        if context.get("allowPrivilegeEscalation") is False:
            wrapped += ["--no-new-privs"]
        env = {"PATH": "/program:/usr/local/bin:/usr/bin:/bin", **{row["name"]: row["value"] for row in self.spec.get("env", [])}}
        return [*wrapped, "env", "-i", *(f"{name}={value}" for name, value in env.items()), *command]

    def start(self, command=None, extra=(), **more):
        script = self.script(command or self.spec["command"], extra)
        self.process = subprocess.Popen(["unshare", "-m", "--propagation", "unchanged", "sh", "-euc", script], **more)
        return self

    def run(self, command=None, extra=()):
        status = self.start(command, extra).process.wait(timeout=PATIENCE)
        assert status == 0, f"{self.pod.name}/{self.spec['name']}: exit {status}"

    def exec(self, command, timeout=PATIENCE):
        """A command in the container that runs, as a probe or a hook is run."""
        inside = ["nsenter", "--target", str(self.process.pid), "--mount", "--root", "--wd"]
        return subprocess.run([*inside, *self.confined(command)], timeout=timeout, capture_output=True, text=True)

    def probe(self, name):
        try:
            return self.exec(self.spec[name]["exec"]["command"], timeout=self.spec[name]["timeoutSeconds"]).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def serve(self):
        self.start()

        def is_started():
            assert self.process.poll() is None, f"{self.spec['name']} ended with {self.process.returncode}"
            return self.probe("startupProbe")

        until(f"{self.pod.name}/{self.spec['name']} starts", is_started)
        return self

    def processes(self):
        """Of the container, those before that others watch over."""
        found = [self.process.pid]
        for pid in found:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                found += [int(child) for child in children.read().split()]
        return found

    def signal(self, number, pids=None):
        for pid in pids or self.processes():
            os.kill(pid, number)

    def kill(self):
        """All that run in it end with a container."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """The preStop hook, which has to end the daemon and take the mount away."""
        done = self.exec(self.spec["lifecycle"]["preStop"]["exec"]["command"])
        assert done.returncode == 0, done.stderr
        self.process.wait(timeout=PATIENCE)


class Agent:
    """A shell that lives in the agent's container and reads when it is told to."""

    def __init__(self, container, command):
        self.shell = container.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True).process

    def says(self, command):
        self.shell.stdin.write(f"{{ {command}; }} 2>&1; printf '\\nEND\\n'\n")
        self.shell.stdin.flush()
        lines = []
        while (line := self.shell.stdout.readline()) != "END\n":
            assert line, f"the agent's shell ended: {''.join(lines)}"
            lines.append(line)
        return "".join(lines).strip()

    def end(self):
        self.shell.stdin.close()
        self.shell.wait(timeout=PATIENCE)


def origin(node, repo, files):
    work = node / "origins" / repo
    for path, text in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    git = f"git -C {work} -c user.name=n -c user.email=e@example.org"
    shell(f"git init -q -b main {work}; {git} add -A; {git} commit -q -m x", env=env)


def find(documents, kind, end):
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(end)]
    return found["spec"].get("template", found)["spec"]


def sync(machine, documents):
    container = Pod(machine, "sync", find(documents, "DaemonSet", "-sync"), documents).container("sync")
    container.run([*container.spec["command"], "--once"], extra=[("/origins", machine.node / "origins")])
    container.run(container.spec["readinessProbe"]["exec"]["command"])


def fill_home(machine, pod):
    """What the image has in its home directory gets into the volume, which is root's; also once more, as init containers may run."""
    image = machine.node / "image"
    image.mkdir()
    (image / ".profile").write_text("image\n")
    (image / ".profile").chmod(0o444)
    (image / "link").symlink_to(".profile")
    shell(f"chown -hR 1000:1000 {image}")
    for _ in range(2):
        pod.container("home").run(extra=[("/home/agent", image)])


def sidecar(machine, documents):
    """A restarted sidecar's mount reaches the agent, and at the end nothing is left in the volume."""
    pod = Pod(machine, "agent", find(documents, "Pod", "-agent"), documents)
    fill_home(machine, pod)
    pod.container("overlayfs-mount-wait").run()
    daemon = pod.container("overlayfs-mount").serve()
    agent = Agent(pod.container("agent"), ["sh"])
    assert machine.mounts(), "the mount does not reach the node"
    skills = agent.says("echo $CENTAUR_SKILL_DIRS")
    assert agent.says(f"cat {skills}/review/SKILL.md") == "public", agent.says(f"ls -lR {skills}")
    assert agent.says("cat /home/agent/github/your-org/private/secret") == "secret"
    assert agent.says("echo mine > /home/agent/mine; cat /home/agent/mine") == "mine"
    assert agent.says("cat /home/agent/.profile; readlink /home/agent/link") == "image\n.profile", agent.says("ls -la /home/agent")
    assert "Read-only" in agent.says("echo x > /home/agent/github/x")
    assert daemon.probe("readinessProbe") and daemon.probe("livenessProbe")
    # With a daemon that hangs the probe fails, and does not hang with it: nobody could end it.
    processes = daemon.processes()
    daemon.signal(signal.SIGSTOP, processes)
    assert not daemon.probe("livenessProbe"), "alive, and stopped"
    daemon.signal(signal.SIGCONT, reversed(processes))
    # Killed for want of memory, say: the agent notices nothing.
    os.kill(daemon.processes()[1], signal.SIGKILL)
    assert agent.says(f"ls /home/agent/github/your-org; cat {skills}/review/SKILL.md") == "private\npublic\npublic"

    daemon.kill()
    daemon = pod.container("overlayfs-mount").serve()
    assert agent.says(f"cat {skills}/triage/SKILL.md") == "triage", "the restarted sidecar's mount does not reach the agent"
    agent.end()
    daemon.stop()
    assert not machine.mounts(), machine.mounts()
    shell(f"rm -r {pod.volumes['home']}")


def public(machine, documents):
    """A public pod cannot see what is private, not even in its sidecar."""
    pod = Pod(machine, "public", find(documents, "Pod", "-agent"), documents)
    pod.container("overlayfs-mount-wait").run()
    daemon = pod.container("overlayfs-mount").serve()
    seen = daemon.exec(["find", "/var/lib/centaur/repos", "-maxdepth", "2"]).stdout
    assert "public" in seen and "private" not in seen, seen
    agent = Agent(pod.container("agent"), ["sh"])
    assert agent.says("ls /home/agent/github/.agents/skills") == "review\ntriage"
    assert agent.says("ls /home/agent/github/your-org") == "public"
    agent.end()
    daemon.stop()


def node(machine, documents):
    """The node's daemon mounts for pods that are not privileged."""
    daemon_pod = Pod(machine, "node", find(documents, "DaemonSet", "-node"), documents)
    # The pod comes before the daemon, as on a node that starts.
    pod = Pod(machine, "api", find(documents, "Deployment", "-api"), documents)
    waiting = pod.container("overlayfs-mount-wait").start().process
    daemon_pod.container("overlayfs-mount-wait").run()
    daemon = daemon_pod.container("mount").serve()
    assert waiting.wait(timeout=PATIENCE) == 0, "the pod does not see the mount"
    api = Agent(pod.container("api"), ["sh"])
    assert api.says("ls $TOOL_DIRS") == "slack", api.says("env; ls -la /overlay /overlay/github")
    daemon.kill()
    daemon = daemon_pod.container("mount").serve()
    assert api.says("cat $TOOL_DIRS/slack/pyproject.toml") == "[project]", "the restarted daemon's mount does not reach the pod"
    api.end()
    daemon.stop()
    assert not machine.mounts(), machine.mounts()


def device_plugin(machine, documents):
    """Below `exec` the agent has the view, without any privilege."""
    pod = Pod(machine, "device", find(documents, "Pod", "-agent"), documents)
    pod.container("overlayfs-mount-wait").run()
    pod.container("overlayfs-mount-program").run()
    container = pod.container("agent")
    agent = Agent(container, [*container.spec["command"][:-2], "sh"])
    assert agent.says("cat $CENTAUR_SKILL_DIRS/review/SKILL.md") == "public", agent.says("ls -lR /home/agent")
    assert agent.says("id -u; echo mine > /home/agent/mine; cat /home/agent/mine") == "1000\nmine"
    agent.end()
    pod = Pod(machine, "device-api", find(documents, "Deployment", "-api"), documents)
    pod.container("overlayfs-mount-program").run()
    container = pod.container("api")
    api = Agent(container, [*container.spec["command"][:-2], "sh"])
    assert api.says("ls $TOOL_DIRS") == "slack", api.says("ls -lR /home/agent")
    api.end()


def export(machine, documents):
    """Without FUSE the same tree as plain files."""
    pod = Pod(machine, "export", find(documents, "Pod", "-agent"), documents)
    pod.container("overlayfs-mount-wait").run()
    pod.container("overlayfs-mount-export").run()
    agent = Agent(pod.container("agent"), ["sh"])
    assert agent.says("cat /home/agent/github/.agents/skills/review/SKILL.md") == "public"
    agent.end()


def main():
    # A reader of a mount may hang for good: say where, and end.
    faulthandler.dump_traceback_later(100, exit=True)
    renderings = json.load(sys.stdin)
    machine = Machine()
    origin(machine.node, "your-org/public", {".agents/skills/review/SKILL.md": "public", ".agents/skills/triage/SKILL.md": "triage"})
    origin(machine.node, "your-org/private", {"secret": "secret", "tools/slack/pyproject.toml": "[project]"})
    sync(machine, renderings["sidecar"])
    for story in [sidecar, public, node, export, device_plugin]:
        if story.__name__ in renderings:
            story(machine, renderings[story.__name__])


if __name__ == "__main__":
    main()
