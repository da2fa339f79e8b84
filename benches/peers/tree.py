"""The trees that are measured, the same in every run: git repositories, a checkout of each, and all of them merged into one directory."""

import json
import os
import random
import subprocess
from pathlib import Path

ENVIRONMENT = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", LC_ALL="C")
SOURCES = 10
FILES_AN_ENTRY = 50
DIRECTORIES = ("scripts", "references", "assets")
MODULES = 200
SKILLS = ".agents/skills"
LARGE = "large/blob/large.bin"


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, env=ENVIRONMENT, **more)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


class Tree:
    """What lies in a directory: `repos/bench/*`, `branches/*`, `merged`, and lists of paths in `lists/`."""

    def __init__(self, directory, entries, large_bytes, is_large_text):
        self.directory = directory
        self.plan = {"entries": entries, "large_bytes": large_bytes, "text": is_large_text, "version": 3}
        self.names = [f"r{number:02}" for number in range(SOURCES)]
        self.merged = directory / "merged"
        self.branches = [directory / "branches" / name for name in [*self.names, "large"]]

    def make(self):
        """Makes it, unless an earlier run of the same plan left it."""
        done = self.directory / "plan.json"
        if done.exists() and json.loads(done.read_text())["plan"] == self.plan:
            self.counts = json.loads(done.read_text())["counts"]
            return
        for name in ("repos", "branches", "merged", "lists"):
            run("rm", "-rf", self.directory / name)
        content = Content()
        for number, name in enumerate(self.names):
            self.repository(name, self.source(content, number), is_packed=True)
        self.repository("large", self.large(content), is_packed=False)
        self.merged.mkdir(parents=True)
        for branch in self.branches:
            run("cp", "-r", f"{branch}/.", self.merged)
        self.write_lists()
        done.write_text(json.dumps({"plan": self.plan, "counts": self.counts}))

    def source(self, content, number):
        """The files of one source: path, mode, bytes."""
        for entry in range(number, self.plan["entries"], SOURCES):
            top = f"{SKILLS}/skill-{entry:04}"
            for part in range(FILES_AN_ENTRY):
                where = f"{DIRECTORIES[part % 3]}/part-{part:02}.md" if part else "SKILL.md"
                yield f"{top}/{where}", "100644", content.text(1024, 8192)
            for link in range(5):
                yield f"{top}/link-{link}", "120000", f"references/part-{3 * link + 1:02}.md".encode()
        if number == 0:
            yield "tools/measured/pyproject.toml", "100644", b'[project]\nname = "measured"\n'
            names = [f"part{n % 10}.module{n:03}" for n in range(MODULES)]
            yield "tools/measured/measured/__init__.py", "100644", b""
            for part in range(10):
                yield f"tools/measured/measured/part{part}/__init__.py", "100644", b""
            for name in names:
                path = name.replace(".", "/")
                yield f"tools/measured/measured/{path}.py", "100644", content.module()
            imports = "".join(f"import measured.{name}\n" for name in names)
            yield "tools/measured/measured/everything.py", "100644", imports.encode()

    def large(self, content):
        size, chance = self.plan["large_bytes"], random.Random(2)
        noise = (chance.randbytes(min(1 << 20, size - start)) for start in range(0, size, 1 << 20))
        yield LARGE, "100644", content.large_text(size) if self.plan["text"] else b"".join(noise)

    def repository(self, name, files, is_packed):
        """A bare repository as a fetch leaves it, all in one pack; and a checkout of it without `.git`."""
        path = self.directory / "repos/bench" / name
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", path)
        command = ["git", "-C", path, "fast-import", "--quiet"]
        importer = subprocess.Popen(command, stdin=subprocess.PIPE, env=ENVIRONMENT)
        write = importer.stdin.write
        write(b"commit refs/heads/main\ncommitter b <b@localhost> 1714564800 +0000\ndata 1\nx\n")
        for where, mode, data in files:
            write(f"M {mode} inline {where}\ndata {len(data)}\n".encode())
            write(data)
            write(b"\n")
        importer.stdin.close()
        if importer.wait() != 0:
            raise SystemExit(f"git fast-import: exit {importer.returncode}")
        if is_packed:
            run("git", "-C", path, "repack", "-a", "-d", "-f", "-q")
        branch = self.directory / "branches" / name
        branch.mkdir(parents=True)
        archive = subprocess.Popen(["git", "-C", path, "archive", "main"], stdout=subprocess.PIPE, env=ENVIRONMENT)
        run("tar", "-x", "-C", branch, stdin=archive.stdout)
        if archive.wait() != 0:
            raise SystemExit(f"git archive: exit {archive.returncode}")

    def write_lists(self):
        """Paths below the root: files, links, names that are not there; and two halves of the files."""
        files, links, directories = [], [], []
        for top, below, names in os.walk(self.merged / SKILLS):
            top = Path(top).relative_to(self.merged)
            directories.append(top)
            below.sort()
            for name in sorted(names):
                is_link = (self.merged / top / name).is_symlink()
                (links if is_link else files).append(top / name)
        each = max(1, len(files) // len(directories))
        lists = {
            "files": files,
            "files.0": files[0::2],
            "files.1": files[1::2],
            "links": links * 5,
            "absent": [top / f"absent-{number}" for top in directories for number in range(each)],
            "skills": [path for path in files if path.name == "SKILL.md"],
            "large": [LARGE],
        }
        (self.directory / "lists").mkdir()
        for name, paths in lists.items():
            (self.directory / "lists" / name).write_text("".join(f"{path}\n" for path in paths))
        self.counts = {name: len(paths) for name, paths in lists.items()}
        self.counts["entries"] = len(files) + len(links) + len(directories)
        self.counts["bytes"] = sum((self.merged / path).stat().st_size for path in files)

    def list(self, name):
        return self.directory / "lists" / name


class Content:
    """Text of words, the same in every run: it compresses as prose does, and no two files are alike."""

    def __init__(self):
        self.random = random.Random(1)
        words = ["".join(self.random.choices("abcdefghijklmnoprstuvw", k=self.random.randint(2, 10))) for _ in range(6000)]
        lines = (" ".join(self.random.choices(words, k=12)) + "\n" for _ in range(150_000))
        self.pool = "".join(lines).encode()

    def text(self, least, most):
        size = self.random.randint(least, most)
        start = self.random.randrange(len(self.pool) - size)
        return self.pool[start : start + size]

    def large_text(self, size):
        pieces, left = [], size
        while left > 0:
            pieces.append(self.text(4096, 65536)[:left])
            left -= len(pieces[-1])
        return b"".join(pieces)

    def module(self):
        lines = []
        for number in range(20):
            word = self.text(8, 20).split()[0].decode()
            lines.append(f"def function_{number}(value):\n    return value + {number}, '{word}'\n\n")
        return "".join(lines).encode()
