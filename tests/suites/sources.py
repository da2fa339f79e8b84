"""Suites that come as sources: where they are from, how they are built, and what of them is run.

They are fetched into a directory and built there once, each at the commit that the expectations are for; `--sources=DIR` names another one
than `/var/tmp/overlayfs-mount-suites`, with what is there already, under these names.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = {
    "ltp": ("https://github.com/linux-test-project/ltp.git", "695827725f4fc14fe583043127e0335c29bbd52d"),
    "xfstests": ("https://github.com/kdave/xfstests.git", "63a29724a85f1999e49bf0a9bf0d22643b6116e5"),
    "unionmount-testsuite": ("https://github.com/amir73il/unionmount-testsuite.git", "f48a57d2a7db5f86ff3dbc4444c3c3041e182d7d"),
}
NEEDS = {"autoconf": "autoconf", "automake": "automake", "make": "make", "gcc": "gcc", "m4": "m4", "pkg-config": "pkgconf"}

# Programs of LTP that make calls which a read-only file system refuses: they ask for one, and get the view.
REFUSED = {
    "access": ["access04"], "acct": ["acct01"], "chmod": ["chmod06"], "chown": ["chown04"], "creat": ["creat06"], "fchmod": ["fchmod06"],
    "fchown": ["fchown04"], "fchownat": ["fchownat03"], "lchown": ["lchown02"], "link": ["link08"], "mkdir": ["mkdir03"], "mkdirat": ["mkdirat02"],
    "mknod": ["mknod07"], "rmdir": ["rmdir02"], "unlink": ["unlink10"], "utime": ["utime06"], "utimes": ["utimes01"],
}
# Directories of LTP whose programs read. They make what they read, so they run in an overlay.
READING = (
    "access chdir copy_file_range creat execve faccessat faccessat2 fadvise fanotify fchdir fstat fstatat fstatfs getcwd getdents inotify llseek lseek lstat mincore mmap"
    " name_to_handle_at open open_by_handle_at openat openat2 pathconf pread preadv preadv2 read readahead readdir readlink readlinkat readv realpath sendfile splice stat"
    " statfs statvfs statx"
).split()
# Races of two threads for minutes, which say nothing of a file system.
LONG = {"inotify09"}
# These look at file systems that they make themselves, on a device or one after the other: not at the one below them.
ELSEWHERE = re.compile(r"all_filesystems|needs_device|mount_device|format_device|needs_rofs|needs_hugetlbfs|filesystems =")

# In the place of the read-only file system that a program asks for it gets a directory of the view.
VIEW_FOR_LTP = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mount.h>

int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
	int (*real)(const char *, const char *, const char *, unsigned long, const void *) = dlsym(RTLD_NEXT, "mount");

	if ((flags & MS_REMOUNT) && (flags & MS_RDONLY))
		return umount(target) ? -1 : real(getenv("VIEW"), target, NULL, MS_BIND, NULL);
	return real(source, target, type, flags, data);
}
"""
# What xfstests' programs include, as far as the ones here need it.
GLOBAL = "".join(f"#include <{name}.h>\n" for name in (
    "assert ctype errno fcntl getopt signal stdint stdio stdlib string unistd sys/ioctl sys/param sys/stat sys/time sys/types linux/falloc linux/fs".split()
)) + "#define rounddown_64(x, y) ((x) / (y) * (y))\n#define roundup_64(x, y) ((((x) + (y) - 1) / (y)) * (y))\n"
# A program that makes the files which it then looks for, in a directory that has them.
OPENED = """
#include <fcntl.h>
static int opened(int directory, const char *name, int flags, int mode) { return openat(directory, name, O_RDONLY); }
#define openat opened
"""


class Sources:
    """The sources, fetched and built."""

    def __init__(self, told):
        named = next((word.partition("=")[2] for word in sys.argv if word.startswith("--sources=")), "/var/tmp/overlayfs-mount-suites")
        self.top, self.told = Path(named).resolve(), told
        self.built = self.top / "built"

    def run(self, *command, **more):
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {done.stdout[-2000:]}")

    def prepare(self, is_built):
        self.built.mkdir(parents=True, exist_ok=True)
        for name, (address, commit) in SOURCES.items():
            place = self.top / name
            if not place.exists():
                print(f"fetching {name}", flush=True)
                self.run("git", "init", "--quiet", f"{place}.new")
                self.run("git", "-C", f"{place}.new", "fetch", "--quiet", "--depth=1", address, commit)
                self.run("git", "-C", f"{place}.new", "checkout", "--quiet", "FETCH_HEAD")
                Path(f"{place}.new").rename(place)
        if is_built:
            self.build_ltp()
            self.build_xfstests()

    def build_ltp(self):
        ltp = self.top / "ltp"
        if not (ltp / "include/mk/config.mk").exists():
            print("building LTP", flush=True)
            self.run("make", "autotools", cwd=ltp)
            self.run("./configure", cwd=ltp)
        jobs = f"-j{os.cpu_count()}"
        if not (ltp / "lib/libltp.a").exists():
            self.run("make", jobs, "-C", ltp / "lib", "libltp.a")
        for name in [*(f"syscalls/{name}" for name in {*READING, *REFUSED}), "fs/read_all"]:
            self.run("make", jobs, "-C", ltp / "testcases/kernel" / name)
        (self.built / "view.c").write_text(VIEW_FOR_LTP)
        self.run("gcc", "-w", "-shared", "-fPIC", "-o", self.built / "view.so", self.built / "view.c", "-ldl")

    def build_xfstests(self):
        (self.built / "global.h").write_text(GLOBAL)
        (self.built / "opened.h").write_text(OPENED)
        # Beside the header of that name which is to count.
        shutil.copy(self.top / "xfstests/ltp/fsx.c", self.built)
        known = ["-DFALLOCATE", "-DHAVE_LINUX_FALLOC_H", "-DHAVE_COPY_FILE_RANGE"]
        source = self.top / "xfstests/src"
        for name, arguments in {
            "fsx": [*known, self.built / "fsx.c"], "t_dir_offset2": [source / "t_dir_offset2.c"], "t_dir_type": [source / "t_dir_type.c"],
            "t_readdir_3": [source / "t_readdir_3.c"], "t_readdir_3-opens": ["-include", self.built / "opened.h", source / "t_readdir_3.c"],
        }.items():
            self.run("gcc", "-w", "-O1", "-D_GNU_SOURCE", f"-I{self.built}", f"-I{source}", "-o", self.built / name, *arguments)

    def write_tree(self, skills):
        """What these programs look for in the view."""
        refused = skills / "ltp"
        (refused / "dir").mkdir(parents=True)
        (refused / "dir/kept").write_text("kept\n")
        (refused / "file").write_text("file content")
        (refused / "file").chmod(0o755)
        (skills / "seek").mkdir()
        self.run(self.built / "t_readdir_3", skills / "seek", 500, 7)
        (skills / "zeros").mkdir()
        (skills / "zeros/file").write_bytes(bytes(256 << 10))

    def outcome(self, command, **more):
        """How a program ends; what of it is a failure, in the program's words."""
        try:
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=120, **more)
        except subprocess.TimeoutExpired:
            return "takes too long"
        fails = [line for line in done.stdout.splitlines() if "TFAIL" in line or "TBROK" in line]
        if done.returncode == 0:
            return "ok"
        if done.returncode == 32:
            return "not supported"
        said = fails or done.stdout.splitlines() or [f"ends with {done.returncode}"]
        return re.sub(r"0x[0-9a-f]+|\d{2,}", "N", re.sub(r".*(TFAIL|TBROK):? *", "", said[0]))[:160]

    def in_view(self, view):
        """What needs no writing."""
        skills = Path(view) / ".agents/skills"
        ltp = self.top / "ltp/testcases/kernel"
        self.told("ltp read_all", self.outcome([ltp / "fs/read_all/read_all", "-d", view, "-r", "3"]))
        environment = dict(os.environ, LD_PRELOAD=str(self.built / "view.so"), VIEW=str(skills / "ltp"))
        for directory, names in sorted(REFUSED.items()):
            for name in names:
                self.told(f"ltp read-only {name}", self.outcome([ltp / "syscalls" / directory / name], env=environment, cwd=ltp / "syscalls" / directory))
        for place in "small", "fio", "seek", ".":
            self.told(f"xfstests t_dir_offset2 {place}", self.outcome([self.built / "t_dir_offset2", skills / place]))
        self.told("xfstests t_readdir_3", self.outcome([self.built / "t_readdir_3-opens", skills / "seek", 500, 7]))
        said = subprocess.run([self.built / "t_dir_type", skills / "small"], capture_output=True, text=True).stdout
        found = dict(line.rsplit(" ", 1) for line in said.splitlines())
        true = {"..": "d", ".": "d", **{entry.name: "l" if entry.is_symlink() else "f" for entry in (skills / "small").iterdir()}}
        self.told("xfstests t_dir_type", "ok" if found == true else "other types than stat(2) gives")

    def in_overlay(self, merged):
        """What writes, in a merged tree: an outcome for each program."""
        found = {}
        skills = merged / ".agents/skills"
        for operations in 1000, 10000:
            file = skills / "zeros/file"
            found[f"xfstests fsx {operations}"] = self.outcome([self.built / "fsx", "-k", "-q", "-S", "7", "-N", operations, "-P", "/tmp", file], cwd="/tmp")
        environment = dict(os.environ, TMPDIR=str(skills / "deep"), LTP_COLORIZE_OUTPUT="0")
        for directory in READING:
            place = self.top / "ltp/testcases/kernel/syscalls" / directory
            for source in sorted(place.glob("*.c")):
                program = source.with_suffix("")
                if program.exists() and program.name not in LONG and re.search(r"\d\d$", program.name) and not ELSEWHERE.search(source.read_text(errors="replace")):
                    path = f"{place}:{os.environ['PATH']}"
                    found[f"ltp {program.name}"] = self.outcome([program], env=dict(environment, PATH=path), cwd=place)
        return found
