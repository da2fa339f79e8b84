"""A remote whose commits have numbers, and looks at what is left of a cache."""

import glob
import os
import re
import subprocess

REMOTE, SKILL = "remotes/base", ".agents/skills/review"


def git(*arguments, at=REMOTE):
    return subprocess.run(["git", "-C", at, *arguments], capture_output=True, text=True, check=True).stdout.strip()


class Remote:
    """Every commit of it has one number, which all of its files begin with."""

    def __init__(self):
        self.commits = {git("rev-parse", "HEAD"): 0}

    def move(self, is_large):
        number = len(self.commits)
        os.makedirs(os.path.join(REMOTE, SKILL), exist_ok=True)
        for name in ("SKILL.md", "a", "b"):
            with open(os.path.join(REMOTE, SKILL, name), "w") as file:
                file.write(f"{number} {name}\n" * 40)
        for path in glob.glob(os.path.join(REMOTE, SKILL, "n*")):
            os.unlink(path)
        # More objects than git unpacks: a pack comes whole.
        for name in range(110 if is_large else 0):
            with open(os.path.join(REMOTE, SKILL, f"n{name}"), "w") as file:
                file.write(f"{number} {name}\n")
        git("add", "-A")
        git("commit", "-qm", str(number))
        self.commits[git("rev-parse", "HEAD")] = number
        return number


def mirror_commit(mirror, has_history=True):
    """Where the mirror is, by git itself, which also looks at each object; the rest is what it said. Without a history at what its refs have."""
    if not os.path.isdir(mirror):
        return None, ""
    looks = [["fsck", "--full", "--strict", "--no-dangling"]] if has_history else [["archive", "HEAD"]]
    for look in looks:
        found = subprocess.run(["git", "--git-dir", mirror, *look], capture_output=True)
        if found.returncode:
            return None, f"{look[0]}: {found.stderr.decode()}"
    refs = subprocess.run(["git", "--git-dir", mirror, "for-each-ref", "--format=%(objectname)"], capture_output=True, text=True).stdout.split()
    return (refs[0], "") if len(set(refs)) == 1 else (None, f"refs {refs}")


def leftovers(cache):
    """Files that nobody needs."""
    is_left = re.compile(r"(^tmp_|^\.tmp-|\.lock$|\.keep$|\.cloning$|-link$|\.tmp$|\.new$)")
    found = [os.path.join(top, name) for top, folders, names in os.walk(cache) for name in names + folders if is_left.search(name)]
    # What a round holds.
    return [path for path in found if not path.endswith(".overlayfs-mount-sync.lock")]
