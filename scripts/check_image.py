"""Try the container's recipe without Docker: run the Dockerfile's steps in a clean root and then the page in it.

``python scripts/check_image.py`` installs the packages as the image does; ``--packages FOLDER`` lends those of an
environment instead, which takes a minute. Needs Linux, root, util-linux and a Python; this machine's /usr stands in for
the base image, so what is checked is the recipe and not the base. The clean root is read-only but for /data and /tmp,
and the page runs as the recipe's user without any rights of root. It makes a clip with the bundled model.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

REPOSITORY = Path(__file__).resolve().parents[1]
HOST = (
    "usr",
    "etc/alternatives",
    "etc/ca-certificates",
    "etc/default/useradd",
    "etc/ld.so.cache",
    "etc/login.defs",
    "etc/resolv.conf",
    "etc/ssl",
)
"""What stands in for the base image, read-only."""
LINKS = ("bin", "sbin", "lib", "lib64")
USERS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "group": "root:x:0:\n",
    "shadow": "root:*:20000:0:99999:7:::\n",
    "gshadow": "root:*::\n",
}
"""The files of users before the recipe's first step."""
INSIDE = "OPENSORA_CHECK_IMAGE_ROOT"
"""Variable that tells the process inside the namespaces where the root is."""
WEIGHTS = ("*.safetensors", "*.pt", "*.pth", "*.bin", "*.ckpt")
GENERATE = "python -m opensora generate 'a red ball on a green meadow' --length 1f --steps 2 --output /data/outputs/try"


@dataclass
class Recipe:
    """What a Dockerfile says."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    """``RUN``, ``COPY`` and ``WORKDIR`` with their words, in order."""
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read_recipe(text: str) -> Recipe:
    """Read a Dockerfile with the instructions that ours has.

    Raises:
        ValueError: an instruction that this script does not know.
    """
    recipe = Recipe()
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, words = line.partition(" ")
        if name in ("RUN", "COPY", "WORKDIR"):
            recipe.steps.append((name, words.strip()))
        elif name in ("ENV", "ARG"):
            pairs = (word.partition("=") for word in shlex.split(words))
            recipe.environment |= {key: value for key, _, value in pairs}
        elif name == "USER":
            recipe.user = words.strip()
        elif name == "HEALTHCHECK":
            recipe.health = json.loads(words[words.index("[") :])
        elif name == "CMD":
            recipe.command = json.loads(words)
        elif name not in ("FROM", "VOLUME", "EXPOSE"):
            raise ValueError(f"Got the instruction {name}; this script knows none of that name.")
    return recipe


def is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path of the repository stays out of the image; the last pattern that fits decides, as for Docker."""
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        parents = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
        if any(_fits(parent, wanted) for parent in parents):
            ignored = not pattern.startswith("!")
    return ignored


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        tail = pattern.removeprefix("**/")
        return any(_fits("/".join(path.split("/")[start:]), tail) for start in range(path.count("/") + 1))
    if "/**/" in pattern:
        head, _, tail = pattern.partition("/**/")
        return path.startswith(head + "/") and _fits(path.removeprefix(head + "/"), "**/" + tail)
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def ignored_patterns(text: str) -> list[str]:
    """The patterns of a ``.dockerignore``."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def copied(source: str, patterns: Sequence[str]) -> Iterator[Path]:
    """Files of the repository that a COPY brings, relative to it."""
    top = REPOSITORY / source
    for path in [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file()):
        relative = path.relative_to(REPOSITORY)
        if not is_ignored(relative.as_posix(), patterns):
            yield relative


class Root:
    """A clean root in namespaces of its own; everything in it vanishes with this process."""

    def __init__(self, folder: Path, recipe: Recipe, python: str, lent: Path | None) -> None:
        self.folder, self.recipe, self.work = folder, recipe, "/"
        self._mount("-t", "tmpfs", "-o", "mode=755", "root", folder)
        for name in LINKS:
            (folder / name).symlink_to(f"usr/{name}")
        base = Path(sys.base_prefix)
        homes = [] if base.is_relative_to("/usr") else [str(base).removeprefix("/")]
        for name in (*HOST, *homes):
            self._bind(Path("/") / name, name)
        for name, mode in (("tmp", 0o1777), ("proc", 0o555), ("dev", 0o755), ("home", 0o755), ("opt", 0o755)):
            (folder / name).mkdir()
            (folder / name).chmod(mode)
        for name in ("null", "zero", "random", "urandom"):
            self._bind(Path("/dev") / name, f"dev/{name}", "rw")
        (folder / "dev/shm").mkdir()
        self._mount("-t", "tmpfs", "-o", "mode=1777", "shm", folder / "dev/shm")
        self._mount("-t", "proc", "proc", folder / "proc")
        for name, text in USERS.items():
            (folder / "etc" / name).write_text(text)
        self.environment = {"PATH": "/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        self.run([python, "-m", "venv", *(["--without-pip"] if lent else []), "/opt/python"])
        if lent is not None:
            (packages,) = (folder / "opt/python/lib").glob("python*/site-packages")
            self._bind(lent, str(packages.relative_to(folder)))

    def build(self, patterns: Sequence[str], lent: bool) -> None:
        """Take the recipe's steps."""
        for name, words in self.recipe.steps:
            began = time.monotonic()
            if name == "WORKDIR":
                self.work = words
                (self.folder / words.removeprefix("/")).mkdir(parents=True, exist_ok=True)
            elif name == "COPY":
                words = f"{words}: {self._copy(words.split(), patterns) / 2**20:.1f} MB"
            elif lent and words.startswith("pip install"):
                words += " (not run: packages are lent)"
            else:
                self.run(["sh", "-euc", words], extra={"PIP_ARGS": ""} | _pip())
            print(f"{name:8} {words} [{time.monotonic() - began:.1f} s]", flush=True)
        self.environment |= self.recipe.environment
        self._mount("-o", "remount,ro", self.folder)
        for name in ("data", "tmp"):  # as a volume and a tmpfs are on a read-only container
            owner = (self.folder / name).stat()
            options = f"uid={owner.st_uid},gid={owner.st_gid},mode={owner.st_mode & 0o7777:o}"
            self._mount("-t", "tmpfs", "-o", options, name, self.folder / name)

    def command(self, words: Sequence[str], user: bool = True) -> list[str]:
        """A command inside, as the recipe's user or as root."""
        prefix = ["chroot", str(self.folder)]
        if user:
            uid, _, gid = self.recipe.user.partition(":")
            prefix += ["setpriv", "--reuid", uid, "--regid", gid or uid, "--clear-groups", "--no-new-privs"]
            prefix += ["--inh-caps=-all", "--bounding-set=-all"]
        return [*prefix, "sh", "-c", f"cd {self.work} && exec {shlex.join(words)}"]

    def run(self, words: Sequence[str], user: bool = False, extra: dict[str, str] | None = None) -> None:
        """Run a command inside; its failure ends the script."""
        home = {"HOME": "/home/user"} if user else {}
        subprocess.run(self.command(words, user), env=self.environment | home | (extra or {}), check=True)

    def _copy(self, words: list[str], patterns: Sequence[str]) -> int:
        target, size = self.folder / self.work.removeprefix("/") / words[-1], 0
        for source in words[:-1]:
            files = list(copied(source, patterns))
            if not files:
                raise SystemExit(f"COPY {source}: there is no such file, or .dockerignore leaves it out.")
            for file in files:
                whole = (REPOSITORY / source).is_dir()
                place = target / (file.relative_to(source) if whole else file.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(REPOSITORY / file, place)
                size += place.stat().st_size
        return size

    def _bind(self, source: Path, name: str, mode: str = "ro") -> None:
        if not source.exists():
            return
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if source.is_dir() else place.touch()
        self._mount("--bind", source, place)
        self._mount("-o", f"remount,bind,{mode}", place)

    def _mount(self, *words: object) -> None:
        subprocess.run(["mount", *map(str, words)], check=True)


def _pip() -> dict[str, str]:
    """How this machine's pip reaches its index."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}


def try_page(root: Root, patience: float) -> None:
    """Start the page, wait until its health check passes, look at it, stop it."""
    environment = root.environment | {"HOME": "/home/user"}
    page = subprocess.Popen(root.command(root.recipe.command), env=environment)
    try:
        end = time.monotonic() + patience
        while subprocess.run(root.command(root.recipe.health), env=environment, capture_output=True).returncode:
            if page.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"The page did not become healthy; it ended with {page.poll()}.")
            time.sleep(1)
        print("healthy", flush=True)
        status = (root.folder / f"proc/{page.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines())
        assert facts["Uid"].split() == [root.recipe.user.partition(":")[0]] * 4, facts["Uid"]
        assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0, "the page has rights of root"
    finally:
        page.send_signal(signal.SIGTERM)
        code = page.wait(60)
    assert code in (0, -signal.SIGTERM), f"stopped with {code}"
    print("stopped", flush=True)


def inside(folder: Path, packages: Path | None, patience: float) -> None:
    """Everything, in namespaces of its own."""
    patterns = ignored_patterns((REPOSITORY / ".dockerignore").read_text(encoding="utf-8"))
    recipe = read_recipe((REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
    python = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    root = Root(folder, recipe, python, packages)
    root.build(patterns, packages is not None)
    weights = [p for kind in WEIGHTS for p in (folder / "app").rglob(kind) if "assets" not in p.parts]
    assert not weights, f"weights in the image: {weights}"
    root.run(["sh", "-c", GENERATE], user=True)
    (clip,) = (folder / "data/outputs").glob("try*")
    print(f"the bundled model made {clip.name}, {clip.stat().st_size} bytes", flush=True)
    try_page(root, patience)
    assert (folder / "data/outputs/.jobs").is_dir(), "the page keeps its jobs outside of /data"
    print("The recipe works here.")


def main(
    packages: Annotated[Path | None, typer.Option(help="Folder site-packages that is lent.", exists=True)] = None,
    patience: Annotated[float, typer.Option(help="Seconds until the page has to be healthy.")] = 300,
) -> None:
    """Try the recipe."""
    if INSIDE in os.environ:
        inside(Path(os.environ[INSIDE]), packages, patience)
        return
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None:
        raise SystemExit("Needs Linux, root and unshare of util-linux, for a clean root of its own.")
    with tempfile.TemporaryDirectory(prefix="opensora-image-") as folder:
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        command = [*words, sys.executable, __file__, *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=os.environ | {INSIDE: folder}, check=False).returncode)


if __name__ == "__main__":
    typer.run(main)
