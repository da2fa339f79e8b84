"""The checks of the charts. Run by `run`, which brings the tools.

A check is a function whose name begins with `check_`; it fails by an AssertionError that says what is wrong.
"""

import argparse
import itertools
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import jsonschema
import kubernetes_validate
import yaml

PROGRAMS = ["api", "sandbox", "workflow-host", "repo-cache"]
STYLES = ["union", "list"]
# The oldest that the chart is for, and the newest that the validator knows.
KUBERNETES = ["1.29.0", "1.37.0"]

SEVERAL = """
overlays:
  sources:
    - {repo: paradigmxyz/centaur, ref: main, visibility: public}
    - {repo: your-org/overlay, ref: v1.4.0, toolsSubdir: "", skillsSubdir: skills, personasSubdir: personas, promptPath: prompts/SYSTEM.md}
    - {repo: your-org/flows, toolsSubdir: x/./tools/, workflowsSubdir: "", skillsSubdir: null, required: false}
    - {repo: ""}
    - {repo: your-org/last, visibility: " PUBLIC ", workflowsSubdir: ., subdirs: {skills: s/k}}
"""

COMPAT = """
toolServer:
  repo: paradigmxyz/centaur
  ref: main
  subdir: ""
  visibility: public
  extraSources:
    - {repo: your-org/overlay, ref: v1, subdir: t, workflowsSubdir: w, skillsSubdir: ""}
    - {repo: your-org/more, visibility: private}
    - {repo: ""}
"""

COMPAT_AS_LIST = """
overlays:
  sources:
    - {repo: paradigmxyz/centaur, ref: main, visibility: public, toolsSubdir: tools}
    - {repo: your-org/overlay, ref: v1, toolsSubdir: t, workflowsSubdir: w, skillsSubdir: .agents/skills}
    - {repo: your-org/more, visibility: private}
"""

# Values of the platform, by what they are about. Each is given to the chart and to the program as it is.
PLATFORM = {
    "nothing": "{}",
    "several sources": SEVERAL,
    "compat": COMPAT,
    "list in place of compat": COMPAT_AS_LIST,
    "no repo cache": SEVERAL + "repoCache: {enabled: false}\n",
    "no tool server": "toolServer: {enabled: false}\n",
    "no tool server, with sources": SEVERAL + "toolServer: {enabled: false}\n",
    "no repo": "toolServer: {repo: ''}\n",
    "null repo": "toolServer: {repo: null}\n",
    "no list": "overlays: {sources: null}\ntoolServer: {repo: a/b, subdir: null}\n",
    "dropped entries only": "overlays: {sources: [{repo: ''}]}\n",
    "workflows off": "overlays: {sources: [{repo: a/b, workflowsSubdir: ''}, {repo: c/d, toolsSubdir: '', workflowsSubdir: ''}]}\n",
    "all off": "overlays: {sources: [{repo: a/b, toolsSubdir: '', workflowsSubdir: '', skillsSubdir: ''}]}\n",
    "a directory": "overlays: {sources: [{path: /srv/mine, name: me/mine, visibility: public}, {path: /srv/other/}, {repo: a/b}]}\n",
    "names with signs": "overlays: {sources: [{repo: a.b/c_d-e, ref: feature/x@y, toolsSubdir: 'a\\b & <c>'}, {repo: f/g, toolsSubdir: 'é'}]}\n",
    "the cache elsewhere": SEVERAL + "repoCache: {hostPath: /data/repos/, autoReload: false, syncIntervalSeconds: 1000000}\n",
    "repositories": SEVERAL
    + """
repoCache:
  syncIntervalSeconds: 7
  repositories: [x/extra, {repo: your-org/overlay, ref: listed, visibility: public}, {repo: y/z, ref: r}, {ref: none}]
  repositoryRefs: {x/extra: pinned, paradigmxyz/centaur: keyed, a/empty: ""}
  image: {repository: not-ours}
""",
    "operator": SEVERAL
    + """
apiRs:
  extraEnv:
    OTHER: x
    NUMBER: 5
    TOOL_DIRS: /mine
    KUBERNETES_TOOLS_REF: theirs
    KUBERNETES_WORKFLOW_DIRS: /w
    SESSION_SANDBOX_EXTRA_ENV: '[{"value":"<1> & \\"2\\"","name":"X"},{"name":"CENTAUR_PUBLIC_SKILL_DIRS","value":"/mine"}]'
""",
    "operator, as a list": SEVERAL
    + """
apiRs:
  extraEnv:
    - {name: WORKFLOW_DIRS, value: /first}
    - {name: WORKFLOW_DIRS, value: /second}
    - {name: SESSION_SANDBOX_EXTRA_ENV, value: " [] "}
    - {name: TOOL_DIRS, valueFrom: {secretKeyRef: {name: s, key: k}}}
""",
    "operator, no list": SEVERAL + "apiRs: {extraEnv: {SESSION_SANDBOX_EXTRA_ENV: 'no list', KUBERNETES_WORKFLOW_DIRS: ''}}\n",
    "operator, a mapping": SEVERAL + "apiRs: {extraEnv: {SESSION_SANDBOX_EXTRA_ENV: '{\"a\": 1}'}}\n",
    "operator, empty": SEVERAL + "apiRs: {extraEnv: {SESSION_SANDBOX_EXTRA_ENV: ''}}\n",
    "keys of the platform": SEVERAL
    + """
nameOverride: ""
fullnameOverride: centaur
global: {imagePullSecrets: [{name: pull}]}
sandbox: {image: {repository: agent}, runtimeClassName: gvisor, extraEnv: {A: b}, resources: {}}
overlay: {systemPrompt: ""}
toolServer: {port: 8080}
repoCache: {image: {repository: agent}, githubToken: {token: "", secretKey: t}, egressPorts: [443], readinessProbe: {periodSeconds: 5}}
apiRs: {syncInfraSecrets: true, extraEnv: {A: b, NUMBER: 5}}
networkPolicy: {enabled: true}
containerSecurityContext: {allowPrivilegeEscalation: false}
""",
}

# Values of our own, on top of several sources.
OURS = {
    "public access": "access: public\n",
    "no access": "access: none\n",
    "elsewhere": "mount: {at: /overlay/view, uid: 1000000, gid: 1000000, git: true, keep: 1h}\n",
    "surfaces": "surfaces: {tools: {at: bin/tools, subdir: t}, skills: {subdir: ''}, claude: {at: .claude/skills, entries: children}}\n",
    "node": "node: {enabled: true, tolerations: [{operator: Exists}]}\n",
    "metrics": "metrics: {enabled: true}\nnode: {enabled: true}\n",
    "mount options": "node: {enabled: true}\nmountOptions: [noexec, 'context=\"system_u:object_r:container_file_t:s0:c1,c2\"']\n",
    "no daemons": "sync: {enabled: false}\nserviceAccount: {create: false}\nenv: {configMaps: false}\n",
    "a token": "repoCache: {githubToken: {existingSecretName: github}}\nimagePullSecrets: [{name: pull}]\n",
    "a digest": "image: {digest: 'sha256:" + "0" * 64 + "'}\n",
}

# Values that are refused, and what has to be said of them.
REFUSED = {
    "overlays: {sources: [{repo: a/b, toolSubdir: x}]}": ["'toolSubdir' not allowed"],
    "overlays: {sources: [{repo: a/b, ref: 1.10}]}": ["/overlays/sources/0/ref", "got number, want"],
    "overlays: {sources: [{repo: just-a-name}]}": ["/overlays/sources/0/repo", "'just-a-name' does not match"],
    "overlays: {sources: [{repo: a/b, ref: main~1}]}": ["overlays.sources[0].ref: `main~1` is no ref", "cure: "],
    "overlays: {sources: [{repo: a/b, toolsSubdir: ../x}]}": ["overlays.sources[0].toolsSubdir: `../x`", "cure: "],
    "overlays: {sources: [{repo: a/b, subdirs: {claude: /x}}]}": ["overlays.sources[0].subdirs.claude: `/x`", "cure: "],
    "overlays: {sources: [{repo: a/b, path: /x}]}": ["both `repo` and `path`", "cure: "],
    "overlays: {sources: [{path: x}]}": ["/overlays/sources/0/path"],
    "overlays: {sources: [{path: /x/../y}]}": ["overlays.sources[0].path: `/x/../y`", "cure: "],
    "overlays: {sources: [{repo: a/b, toolsSubdir: x, subdirs: {tools: z}}]}": ["`toolsSubdir` says it too"],
    "toolServer: {extraSources: [{repo: a/b, toolsSubdir: x}]}": ["'toolsSubdir' not allowed"],
    "repoCache: {syncIntervalSeconds: 0}": ["/repoCache/syncIntervalSeconds", "minimum"],
    "repoCache: {hostPath: repos}": ["/repoCache/hostPath"],
    "repoCache: {hostPath: '/a:b'}": ["repoCache.hostPath: `/a:b` holds `:`", "cure: "],
    "repoCache: {repositories: [x/y]}\nmount: {git: true}": ["repoCache.repositories", "cure: "],
    "apiRs: {extraEnv: {TOOL_DIRS: 5}}": ["/apiRs/extraEnv/TOOL_DIRS", "got number, want string"],
    "access: some": ["/access", "one of 'all', 'public', 'none'"],
    "fuseAccess: yes": ["/fuseAccess"],
    "mount: {at: /view}": ["/mount/at"],
    "mount: {at: /a/../b}": ["mount.at: `/a/../b`", "cure: "],
    "mount: {att: /a/b}": ["'att' not allowed"],
    "mount: {keep: 1 hour}": ["/mount/keep"],
    "env: {style: both}": ["/env/style", "one of 'union', 'list'"],
    "env: {style: list}\nmount: {at: /a/b}\noverlays: {sources: [{path: '/x:y'}]}": ["holds `:`", "cure: "],
    "node: {enabled: true}\nfuseAccess: none": ["node.enabled", "cure: "],
    "surfaces: {tools: {depht: 1}}": ["'depht' not allowed"],
    "state: {sizeLimit: 5 apples}": ["/state/sizeLimit"],
    # Kubernetes takes text only.
    "sync: {podAnnotations: {prometheus.io/port: 9464}}": ["/sync/podAnnotations/prometheus.io~1port", "got number, want"],
    "node: {podAnnotations: {prometheus.io/scrape: true}}": ["/node/podAnnotations/prometheus.io~1scrape", "got boolean, want"],
    "serviceAccount: {annotations: {a: 1}}": ["/serviceAccount/annotations/a", "got number, want"],
    "repoCache: {nodeSelector: {gpu: true}}": ["/repoCache/nodeSelector/gpu", "got boolean, want"],
    "node: {nodeSelector: {gpu: true}}": ["/node/nodeSelector/gpu", "got boolean, want"],
    "sync: {extraEnv: [{name: A, value: 1}]}": ["/sync/extraEnv/0/value", "got number, want"],
    # A null takes the default away.
    "sync: {terminationGracePeriodSeconds: null}": ["'/sync'", "terminationGracePeriodSeconds"],
    "node: {terminationGracePeriodSeconds: null}": ["'/node'", "terminationGracePeriodSeconds"],
    "metrics: {enabled: true, port: null}": ["'/metrics'", "'port'"],
    "metrics: null": ["'metrics'"],
    "serviceAccount: null": ["'serviceAccount'"],
    "serviceAccount: {create: null}": ["'/serviceAccount'", "'create'"],
    "devicePlugin: {count: null}": ["'/devicePlugin'", "'count'"],
    "mountOptions: ['context=u:r:t:s0:c1,c2']": ["/mountOptions/0", "does not match"],
}


class Charts:
    """The charts in a directory of their own, with the program and helm."""

    def __init__(self, helm, program, charts, scratch):
        self.helm, self.program, self.scratch = helm, program, scratch
        shutil.copytree(charts, scratch / "helm")
        self.chart = scratch / "helm" / "overlayfs-mount"
        self.example = scratch / "helm" / "examples" / "sandbox"
        self.run_helm("dependency", "build", self.example)

    def run_helm(self, *arguments):
        done = subprocess.run([self.helm, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def values(self, *texts):
        """Files with these values, as arguments."""
        arguments = []
        for text in texts:
            path = self.scratch / f"values-{hash(text) & 0xFFFFFFFFFFFF:x}.yaml"
            path.write_text(text)
            arguments += ["--values", path]
        return arguments

    def render(self, *texts, chart=None, settings=(), release="r"):
        sets = itertools.chain.from_iterable(("--set", setting) for setting in settings)
        text = self.run_helm("template", release, chart or self.chart, "--namespace", "n", *self.values(*texts), *sets)
        return [document for document in yaml.safe_load_all(text) if document]

    @contextlib.contextmanager
    def without(self, template):
        """The example without one of its templates."""
        place, aside = self.example / "templates" / template, self.scratch / template
        place.rename(aside)
        try:
            yield
        finally:
            aside.rename(place)

    def env(self, origin, path, program, style):
        done = subprocess.run(
            [self.program, "env", origin, path, "--for", program, "--style", style, "--format", "json"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def only(documents, kind, end):
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(end)]
    assert len(found) == 1, f"{len(found)} of {kind} *{end}"
    return found[0]


def variables(documents, program):
    return only(documents, "ConfigMap", f"-overlay-env-{program}").get("data") or {}


VALID = set()


def validate(documents):
    """Offline, each document once for each version."""
    assert documents, "nothing was rendered"
    for version, document in itertools.product(KUBERNETES, documents):
        key = (version, json.dumps(document, sort_keys=True))
        if key in VALID:
            continue
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as error:
            raise AssertionError(f"{document['kind']} {document['metadata']['name']}, {version}: {error}") from error
        VALID.add(key)


def same(got, wanted, where):
    wrong = [f"{k}: chart {got.get(k)!r}, program {wanted.get(k)!r}" for k in sorted({*got, *wanted}) if got.get(k) != wanted.get(k)]
    assert not wrong, f"{where}: " + "; ".join(wrong)


def check_lint(charts):
    for chart in [charts.chart, charts.example]:
        charts.run_helm("lint", "--strict", chart)


def check_versions_are_those_of_the_program(charts):
    version = subprocess.run([charts.program, "--version"], capture_output=True, text=True).stdout.split()[-1]
    chart = yaml.safe_load((charts.chart / "Chart.yaml").read_text())
    assert chart["appVersion"] == version, f"appVersion {chart['appVersion']}, program {version}"


def check_everything_rendered_is_valid(charts):
    for name, text in PLATFORM.items():
        validate(charts.render(text))
    for text in OURS.values():
        documents = charts.render(SEVERAL, text)
        validate(documents)
    assert any(d["kind"] == "DaemonSet" for d in charts.render("{}"))


NUMBERS = """
nameOverride: "1"
serviceAccount: {name: "2"}
repoCache: {githubToken: {existingSecretName: "3", secretKey: "4"}}
sync: {priorityClassName: "5"}
node: {enabled: true, priorityClassName: "6"}
"""


def check_names_may_look_like_numbers(charts):
    validate(charts.render(SEVERAL, NUMBERS, release="7"))
    validate(charts.render(chart=charts.example, release="7"))


def check_pull_secrets_of_the_platform_may_be_names(charts):
    documents = charts.render("imagePullSecrets: [{name: a}]\nglobal: {imagePullSecrets: [b, {name: c}, a]}")
    validate(documents)
    secrets = only(documents, "DaemonSet", "-sync")["spec"]["template"]["spec"]["imagePullSecrets"]
    assert secrets == [{"name": "a"}, {"name": "b"}, {"name": "c"}], secrets


def check_long_names_are_valid_and_differ(charts):
    """Releases have at most 53 characters, and dots; validation by schema does not look at names."""
    first = "a" * 30 + "." + "b" * 8 + "." + "c" * 12
    seen = set()
    for release in [first, first[:-1] + "d", "short"]:
        named = [d["metadata"]["name"] for d in charts.render(SEVERAL, OURS["node"], release=release)]
        for name in named:
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", name), name
            assert len(name) <= 40 + len("-overlay-env-workflow-host"), name
        assert not seen & set(named), f"in two releases: {seen & set(named)}"
        seen |= set(named)
    assert "short-overlayfs-mount-overlay-sync" in seen, seen


def check_what_is_off_is_not_there(charts):
    names = {d["metadata"]["name"] for d in charts.render(SEVERAL, OURS["no daemons"])}
    assert names == {"r-overlayfs-mount-overlay-config"}, names
    names = {d["metadata"]["name"] for d in charts.render(PLATFORM["no repo cache"]) if d["kind"] == "DaemonSet"}
    assert not names, names


def check_variables_are_those_of_the_program(charts):
    compared = 0
    for (name, text), style in itertools.product(PLATFORM.items(), STYLES):
        (_, path) = charts.values(text)
        documents = charts.render(text, settings=[f"env.style={style}"])
        for program in PROGRAMS:
            wanted = charts.env("--values", path, program, style)
            same(variables(documents, program), wanted, f"{name}, {program}, {style}")
            compared += len(wanted)
        # What sync reads names the same repositories.
        path = charts.scratch / "sync.yaml"
        path.write_text(only(documents, "ConfigMap", "-overlay-config")["data"]["sync.yaml"])
        same(variables(documents, "repo-cache"), charts.env("--values", path, "repo-cache", style), f"{name}, sync.yaml")
    assert compared > 300, f"only {compared} variables were compared"


def check_the_configuration_gives_the_same_variables(charts):
    """Our own keys are in overlays.yaml, which the program has to read without a word, and which gives the same variables."""
    schema = json.loads(subprocess.run([charts.program, "config", "schema"], capture_output=True, text=True).stdout)
    texts = {"nothing": "{}", "compat": COMPAT, **OURS}
    for (name, text), style in itertools.product(texts.items(), STYLES):
        sources = [] if name in ("nothing", "compat") else [SEVERAL]
        documents = charts.render(*sources, text, "env: {configMaps: true}", settings=[f"env.style={style}"])
        data = only(documents, "ConfigMap", "-overlay-config")["data"]
        access = yaml.safe_load(text).get("access", "all")
        permitted = ["all", "public", "none"][["all", "public", "none"].index(access) :]
        assert set(data) == {f"{access}.yaml" for access in permitted} | {"sync.yaml"}, f"{name}: {set(data)}"
        for file in permitted:
            path = charts.scratch / f"{file}.yaml"
            path.write_text(data[f"{file}.yaml"])
            jsonschema.validate(yaml.safe_load(data[f"{file}.yaml"]), schema)
            for program in PROGRAMS if file == access else ["sandbox"]:
                wanted = charts.env("-c", path, program, style)
                if file == access:
                    same(variables(documents, program), wanted, f"{name}, {file}.yaml, {program}, {style}")
        # What sync reads names the same repositories; of its own format it says no less.
        path = charts.scratch / "sync.yaml"
        path.write_text(data["sync.yaml"])
        origin = "-c" if "mount" in yaml.safe_load(data["sync.yaml"]) else "--values"
        command = only(documents, "DaemonSet", "-overlay-sync")["spec"]["template"]["spec"]["containers"][0]["command"] if name != "no daemons" else [origin]
        assert origin in command, f"{name}: {command}, not {origin}"
        same(variables(documents, "repo-cache"), charts.env(origin, path, "repo-cache", "list"), f"{name}, sync.yaml")


def check_compat_and_list_are_the_same(charts):
    def without_config(text):
        documents = charts.render(text, settings=["node.enabled=true", "env.style=list"])
        return [d for d in documents if not d["metadata"]["name"].endswith("-overlay-config")]

    assert without_config(COMPAT) == without_config(COMPAT_AS_LIST)
    assert without_config(COMPAT) != without_config(SEVERAL)


def check_the_workflow_host_takes_what_is_explicit_then_sources_then_what_is_baked_in(charts):
    def workflow_dirs(text, style="list"):
        return variables(charts.render(text, settings=[f"env.style={style}"]), "workflow-host").get("WORKFLOW_DIRS")

    explicit = "apiRs: {extraEnv: {KUBERNETES_WORKFLOW_DIRS: /mine}}\n"
    sources = "overlays: {sources: [{repo: a/b}, {repo: c/d, workflowsSubdir: flows}]}\n"
    # As the platform: where no source names workflows, those beside the tools; where there are no tools either, the image's.
    beside = "overlays: {sources: [{repo: a/b, workflowsSubdir: ''}]}\n"
    off = "overlays: {sources: [{repo: a/b, workflowsSubdir: '', toolsSubdir: ''}]}\n"
    assert workflow_dirs(sources + explicit) == "/mine"
    assert workflow_dirs(sources) == "/home/agent/github/a/b/workflows:/home/agent/github/c/d/flows", workflow_dirs(sources)
    assert workflow_dirs(sources, "union") == "/home/agent/github/workflows", workflow_dirs(sources, "union")
    assert workflow_dirs(beside) == "/home/agent/github/a/b/workflows", workflow_dirs(beside)
    assert workflow_dirs(off) == "/opt/centaur/workflows", workflow_dirs(off)


def check_what_the_operator_says_for_sandboxes_is_merged(charts):
    """The platform's own chart loses the skills where the operator sets SESSION_SANDBOX_EXTRA_ENV."""
    for style, skills in [("union", "/home/agent/github/.agents/skills"), ("list", "/home/agent/github/a/b/.agents/skills")]:
        sources = "overlays: {sources: [{repo: a/b, visibility: public}]}\n"
        theirs = json.dumps([{"name": "THEIRS", "value": "1"}, {"name": "CENTAUR_PUBLIC_SKILL_DIRS", "value": "/theirs"}])
        operator = "apiRs: {extraEnv: {SESSION_SANDBOX_EXTRA_ENV: '" + theirs + "'}}\n"
        found = json.loads(variables(charts.render(sources + operator, settings=[f"env.style={style}"]), "api")["SESSION_SANDBOX_EXTRA_ENV"])
        merged = {row["name"]: row["value"] for row in found}
        assert len(found) == len(merged), found
        assert merged == {"THEIRS": "1", "CENTAUR_PUBLIC_SKILL_DIRS": "/theirs", "CENTAUR_SKILL_DIRS": skills}, found


def check_public_access_names_public_sources_only(charts):
    documents = charts.render(SEVERAL, OURS["public access"], settings=["env.style=list"])
    named = " ".join(value for program in ["api", "sandbox", "workflow-host"] for value in variables(documents, program).values())
    assert "paradigmxyz/centaur" in named and "your-org/last" in named, named
    assert "your-org/overlay" not in named and "your-org/flows" not in named, named


def check_bad_values_are_refused(charts):
    for text, said in REFUSED.items():
        arguments = [charts.helm, "template", "r", charts.chart, *charts.values(text)]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode != 0, f"not refused: {text}"
        missing = [part for part in said if part not in done.stderr]
        assert not missing, f"{text}: {missing} is not in: {done.stderr}"


def check_chart_and_program_refuse_the_same(charts):
    refs = ["main", "v1.4.0", "1e3", "0012", "refs/heads/a/b", "feature/x@y", "HEAD", "käse", "a.lockx", ""]
    refs += ["main~1", "main^", "a:b", "@{u}", "a..b", "-x", "a b", "a\tb", "@", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a."]
    subdirs = ["tools", "./a/./b/", "...", "..a", "a..", ".", "a//", "a b", "", "/a", "..", "../a", "a/..", "a/../b", "a//b", "//"]
    for key, value in [("ref", ref) for ref in refs] + [("toolsSubdir", subdir) for subdir in subdirs]:
        (option, path) = charts.values(json.dumps({"overlays": {"sources": [{"repo": "a/b", key: value}]}}))
        chart = subprocess.run([charts.helm, "template", "r", charts.chart, option, path, "-s", "templates/config.yaml"], capture_output=True, text=True)
        program = subprocess.run([charts.program, "env", option, path], capture_output=True, text=True)
        assert (chart.returncode == 0) == (program.returncode == 0), f"{key}: {value!r}: {chart.stderr or 'taken'}; program: {program.stderr or 'taken'}"


def pods(documents):
    for document in documents:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]
        elif "template" in document.get("spec", {}):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def ours(spec):
    """The containers that run our image."""
    every = spec.get("initContainers", []) + spec["containers"]
    return [container for container in every if container["image"].startswith("overlayfs-mount:")]


def check_only_what_mounts_is_privileged(charts):
    seen = set()
    renderings = [charts.render(SEVERAL, OURS["node"])]
    renderings += [charts.render(chart=charts.example, settings=[f"overlayfs-mount.fuseAccess={way}"]) for way in ["privileged", "devicePlugin", "none"]]
    for documents in renderings:
        for name, spec in pods(documents):
            assert spec["automountServiceAccountToken"] is False, name
            for container in ours(spec):
                context, mounts = container["securityContext"], container["volumeMounts"]
                where = f"{name}/{container['name']}"
                propagates = any(mount.get("mountPropagation") == "Bidirectional" for mount in mounts)
                is_mounting = container["command"][:2] == ["overlayfs-mount", "mount"]
                assert context.get("privileged", False) == propagates == is_mounting, where
                assert context["readOnlyRootFilesystem"] is True, where
                assert container["resources"]["requests"]["memory"] and container["resources"]["limits"]["memory"], where
                if not is_mounting:
                    assert context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}, where
                    assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
                assert all("subPath" not in mount for mount in mounts), where
                seen.add(container["name"])
    wanted = {"sync", "mount", "overlayfs-mount", "overlayfs-mount-wait", "overlayfs-mount-program", "overlayfs-mount-export"}
    assert seen == wanted, seen


def check_mount_options_reach_the_daemons(charts):
    wanted = ["-o", "allow_other", "-o", "noexec", "-o", 'context="system_u:object_r:container_file_t:s0:c1,c2"']
    (node,) = [d for d in charts.render(SEVERAL, OURS["mount options"]) if d["metadata"]["name"].endswith("-node")]
    command = node["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[6:12] == wanted, command


def check_probes_never_touch_the_mount(charts):
    for settings, wanted in [([], "exec"), (["overlayfs-mount.metrics.enabled=true"], "httpGet")]:
        for name, spec in pods(charts.render(chart=charts.example, settings=settings)):
            for container in ours(spec):
                if container["command"][:2] != ["overlayfs-mount", "mount"]:
                    continue
                at = container["command"][-1]
                assert container["startupProbe"]["exec"]["command"] == ["overlayfs-mount", "status", at], name
                for probe in ["readinessProbe", "livenessProbe"]:
                    assert wanted in container[probe], f"{name}: {probe}"
                    command = container[probe].get("exec", {}).get("command", ["overlayfs-mount", "status", at])
                    assert command == ["overlayfs-mount", "status", at], f"{name}: {probe}: {command}"
                stop = container["lifecycle"]["preStop"]["exec"]["command"]
                assert stop == ["overlayfs-mount", "unmount", "--lazy", at], f"{name}: {stop}"


def check_sandbox_pods(charts):
    """The ways in which a pod gets a view, each with what it needs and nothing else."""
    validate(charts.render(chart=charts.example))
    for way, access in itertools.product(["privileged", "devicePlugin", "none"], ["all", "public", "none"]):
        where = f"{way}, {access}"
        settings = [f"overlayfs-mount.fuseAccess={way}", f"agent.access={access}"]
        documents = charts.render(chart=charts.example, settings=settings)
        validate(documents)
        pod = only(documents, "Pod", "-agent")["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        (agent,) = pod["containers"]
        for container in pod["initContainers"] + [agent]:
            lacking = {mount["name"] for mount in container["volumeMounts"]} - volumes
            assert not lacking, f"{where}: {container['name']} mounts {lacking}"
        names = [container["name"] for container in pod["initContainers"]]
        last = {"privileged": "overlayfs-mount", "devicePlugin": "overlayfs-mount-program", "none": "overlayfs-mount-export"}[way]
        assert names == ["home", "overlayfs-mount-wait", last], f"{where}: {names}"
        sidecars = [container["name"] for container in pod["initContainers"] if container.get("restartPolicy") == "Always"]
        assert sidecars == (["overlayfs-mount"] if way == "privileged" else []), f"{where}: {sidecars}"
        (home,) = [mount for mount in agent["volumeMounts"] if mount["name"] == "home"]
        assert home["mountPath"] == "/home/agent" and "subPath" not in home, where
        assert (home.get("mountPropagation") == "HostToContainer") == (way == "privileged"), where
        has_device = "smarter-devices/fuse" in agent["resources"]["limits"]
        assert has_device == (way == "devicePlugin") == (agent["command"][1:2] == ["exec"]), where
        # Whoever has the view, and be it the API.
        api = only(documents, "Deployment", "-api")["spec"]["template"]["spec"]["containers"][0]
        has_device = "smarter-devices/fuse" in api["resources"]["limits"]
        assert has_device == (way == "devicePlugin") == (api["command"][1:2] == ["exec"]), f"{where}: {api['command']}"
        assert api["command"][-2:] == ["api", "serve"], f"{where}: {api['command']}"
        # A public pod is not given the private part of the cache, and one without access nothing of it.
        cache = [volume["hostPath"]["path"] for volume in pod["volumes"] if volume["name"] == "overlayfs-mount-cache"]
        path = "/var/lib/centaur/repos"
        assert cache == {"all": [path], "public": [f"{path}/public"], "none": []}[access], f"{where}: {cache}"
        (wait,) = [container for container in pod["initContainers"] if container["name"] == "overlayfs-mount-wait"]
        assert f"/etc/overlayfs-mount/{access}.yaml" in wait["command"], where


def check_a_pod_gets_no_more_than_the_values_permit(charts):
    settings = ["overlayfs-mount.access=public", "agent.access=all"]
    pod = only(charts.render(chart=charts.example, settings=settings), "Pod", "-agent")["spec"]
    assert "/etc/overlayfs-mount/public.yaml" in pod["initContainers"][1]["command"], pod["initContainers"][1]["command"]


def check_pods_with_the_view_of_the_node(charts):
    settings = ["overlayfs-mount.pod.view=node", "overlayfs-mount.node.enabled=true", "overlayfs-mount.mount.at=/overlay/github", "agent.access=all"]
    arguments = [charts.helm, "template", "r", charts.example, *sum((["--set", s] for s in settings), [])]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode != 0 and "cannot carry the view" in done.stderr, done.stderr
    # The API of the example has no volume of its own.
    with charts.without("agent.yaml"):
        documents = charts.render(chart=charts.example, settings=settings)
    validate(documents)
    api = only(documents, "Deployment", "-api")["spec"]["template"]["spec"]
    node = only(documents, "DaemonSet", "-overlay-node")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in api["volumes"] if volume["name"] == "overlay"]
    (views,) = [volume for volume in node["volumes"] if volume["name"] == "views"]
    assert volume["hostPath"]["path"] == views["hostPath"]["path"], volume
    assert not any(container["securityContext"].get("privileged") for container in api["initContainers"])
    (mount,) = api["containers"][0]["volumeMounts"]
    assert mount == {"name": "overlay", "mountPath": "/overlay", "mountPropagation": "HostToContainer", "readOnly": True}, mount
    assert api["initContainers"][0]["command"][-1] == node["containers"][0]["command"][-1] == "/overlay/github"


def check_the_api_of_the_example_gives_skills_to_sandboxes(charts):
    theirs = '[{"name":"X","value":"1"}]'
    values = yaml.safe_dump({"overlayfs-mount": {"apiRs": {"extraEnv": {"SESSION_SANDBOX_EXTRA_ENV": theirs}}}})
    for text, first in [("{}", []), (values, [{"name": "X", "value": "1"}])]:
        api = only(charts.render(text, chart=charts.example), "Deployment", "-api")["spec"]["template"]["spec"]
        env = api["containers"][0]["env"]
        assert len({row["name"] for row in env}) == len(env), "a variable twice"
        (sandbox,) = [row["value"] for row in env if row["name"] == "SESSION_SANDBOX_EXTRA_ENV"]
        skills = "/home/agent/github/.agents/skills"
        ours = [{"name": name, "value": skills} for name in ["CENTAUR_PUBLIC_SKILL_DIRS", "CENTAUR_SKILL_DIRS"]]
        assert json.loads(sandbox) == first + ours, sandbox


def check_every_command_is_one_of_the_program(charts):
    """Each command that a container runs is understood: its options exist."""
    renderings = [charts.render(SEVERAL, OURS["node"])]
    renderings += [charts.render(SEVERAL, OURS["metrics"])]
    renderings += [charts.render(chart=charts.example, settings=[f"overlayfs-mount.fuseAccess={way}"]) for way in ["privileged", "devicePlugin", "none"]]
    for documents in renderings:
        for name, spec in pods(documents):
            for container in spec.get("initContainers", []) + spec["containers"]:
                commands = [["overlayfs-mount", *container.get("command", [""])[1:]] if "overlayfs-mount" in container.get("command", [""])[0] else [""]]
                commands += [probe["exec"]["command"] for key, probe in container.items() if key.endswith("Probe") and "exec" in probe]
                commands += [hook["exec"]["command"] for hook in container.get("lifecycle", {}).values()]
                for command in commands:
                    if command[0] != "overlayfs-mount":
                        continue
                    help_of = subprocess.run([charts.program, command[1], "--help"], capture_output=True, text=True)
                    assert help_of.returncode == 0, f"{name}: there is no {command[1]}"
                    own = itertools.takewhile(lambda part: part != "--", command[2:])
                    for option in [part for part in own if part.startswith("-")]:
                        is_known = option in help_of.stdout.replace(",", " ").split()
                        assert is_known, f"{name}: {command[1]} has no {option}"


WIRED = """
overlayfs-mount:
  overlays:
    sources:
      - {repo: your-org/public, visibility: public, url: "file:///origins/your-org/public"}
      - {repo: your-org/private, url: "file:///origins/your-org/private"}
"""


def check_what_is_rendered_works(charts):
    """Real mounts: wiring.py runs the containers."""
    if os.environ.get("OVERLAYFS_MOUNT_SKIP_FUSE") == "1":
        print("  SKIPPED: what is rendered was not run (OVERLAYFS_MOUNT_SKIP_FUSE=1)")
        return
    assert os.geteuid() == 0 and os.path.exists("/dev/fuse"), "needs root and /dev/fuse; OVERLAYFS_MOUNT_SKIP_FUSE=1 skips it"
    at = "overlayfs-mount.mount.at=/overlay/github"
    node = ["overlayfs-mount.pod.view=node", "overlayfs-mount.node.enabled=true", at, "agent.access=all"]
    renderings = {
        "sidecar": charts.render(WIRED, chart=charts.example, settings=["agent.access=all"]),
        "public": charts.render(WIRED, chart=charts.example, settings=["agent.access=public"]),
        "export": charts.render(WIRED, chart=charts.example, settings=["overlayfs-mount.fuseAccess=none"]),
    }
    with charts.without("agent.yaml"):
        renderings["node"] = charts.render(WIRED, chart=charts.example, settings=node)
    if subprocess.run([charts.program, "exec", "--help"], capture_output=True).returncode == 0:
        renderings["device_plugin"] = charts.render(WIRED, chart=charts.example, settings=["overlayfs-mount.fuseAccess=devicePlugin"])
    wiring = pathlib.Path(__file__).with_name("wiring.py")
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    done = subprocess.run(
        [*inside, sys.executable, wiring],
        input=json.dumps(renderings),
        env={**os.environ, "PROGRAM": str(charts.program)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser()
    for name in ["helm", "program", "charts"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="checks whose name holds this")
    arguments = parser.parse_args()
    failed = 0
    checks = [(name, check) for name, check in globals().items() if name.startswith("check_") and arguments.only in name]
    with tempfile.TemporaryDirectory() as scratch:
        charts = Charts(arguments.helm, arguments.program, arguments.charts, pathlib.Path(scratch))
        for name, check in checks:
            start, told = time.monotonic(), "ok"
            try:
                check(charts)
            except AssertionError as error:
                failed, told = failed + 1, f"FAILED\n  {error}"
            print(f"{name.removeprefix('check_').replace('_', ' ')} ({time.monotonic() - start:.1f} s): {told}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
