"""A channel of conda of real packages: Pythons of this machine, NumPy's wheel, and small ones.

No channel of the world is needed, and each is as conda's own tools make them: a long prefix in
binaries and texts, which the installer replaces, and run paths set by patchelf.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import uv

# As conda-build makes it: 255 characters, so that any shorter path fits into its place.
PLACEHOLDER = ("/opt/made_by_the_tests" + "_placehold" * 30)[:255]
PLATFORM = "linux-64"
TAR, CONDA = ".tar.bz2", ".conda"  # the two formats of packages
_LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "__pycache__", "ensurepip", "turtledemo"}
_DAY = 1_600_000_000  # seconds; when all packages were "built"


class Recipe:
    """A package in the making: files below a folder, and what is said of them."""

    def __init__(self, folder: Path, name: str, version: str, build: str = "0", **index) -> None:
        self.root = folder / f"{name}-{version}-{build}"
        self.index = {
            "name": name, "version": version, "build": build, "build_number": 0, "depends": [],
            "subdir": PLATFORM, "arch": "x86_64", "platform": "linux", "license": "none",
            "timestamp": _DAY * 1000, **index,
        }  # fmt: skip
        self.link: dict | None = None
        self.form = TAR

    def write(self, path: str, text: str, executable: bool = False) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if executable else 0o644)

    def pack(self, channel: Path) -> Path:
        """Write the archive, with what conda wants to know of each file."""
        target = channel / self.index["subdir"]
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(p for p in self.root.rglob("*") if p.is_symlink() or p.is_file())
        described = [self._described(file) for file in files]
        info = {"index.json": self.index, "paths.json": {"paths": described, "paths_version": 1}}
        if self.link:
            info["link.json"] = self.link
        path = target / f"{self.root.name}{self.form}"
        if self.form == CONDA:
            # https://docs.conda.io/projects/conda-build/en/latest/resources/package-spec.html
            with zipfile.ZipFile(path, "w") as outer:
                outer.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
                for kind in ("pkg", "info"):
                    inner = io.BytesIO()
                    with tarfile.open(fileobj=inner, mode="w") as archive:
                        self._add(archive, *((info, []) if kind == "info" else ({}, files)))
                    name = f"{kind}-{self.root.name}.tar.zst"
                    outer.writestr(name, _zstd(inner.getvalue()))
        else:
            with tarfile.open(path, "w:bz2", compresslevel=1) as archive:
                self._add(archive, info, files)
        return path

    def _add(self, archive: tarfile.TarFile, info: dict, files: list[Path]) -> None:
        for name, content in info.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"info/{name}")
            member.size, member.mtime = len(data), _DAY
            archive.addfile(member, io.BytesIO(data))
        for file in files:
            archive.add(file, str(file.relative_to(self.root)))

    def _described(self, file: Path) -> dict:
        made: dict = {"_path": str(file.relative_to(self.root)), "path_type": "hardlink"}
        if file.is_symlink():
            made["path_type"] = "softlink"
        data = file.read_bytes() if file.exists() else b""
        made |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        if PLACEHOLDER.encode() in data and not file.is_symlink():
            mode = "binary" if b"\0" in data else "text"
            made |= {"prefix_placeholder": PLACEHOLDER, "file_mode": mode}
        return made


def _zstd(data: bytes) -> bytes:
    return subprocess.run(
        ["zstd", "--quiet", "-3", "--stdout"], input=data, capture_output=True, check=True
    ).stdout


def python_package(folder: Path, executable: str) -> Recipe:
    """Return a package of a Python of this machine."""
    ask = "import sys; print(sys.base_prefix, sys.version.split()[0])"
    said = subprocess.check_output([executable, "-I", "-c", ask], text=True).split()
    base, version = Path(said[0]), said[1]
    minor = version.rpartition(".")[0]
    abi = f"cp{minor.replace('.', '')}" + "m" * (minor in ("3.6", "3.7"))
    made = Recipe(folder, "python", version, f"h0_0_{abi}", constrains=[f"python_abi {minor}.*"])
    library = made.root / "lib" / f"python{minor}"
    shutil.copytree(base / "lib" / f"python{minor}", library, ignore=_ignored, symlinks=True)
    shutil.copytree(base / "include", made.root / "include")
    (library / "site-packages").mkdir()
    made.write(f"lib/python{minor}/site-packages/README.txt", "Packages go here.\n")
    (made.root / "bin").mkdir()
    for path in base.glob("lib/libpython*.so*"):
        shutil.copy(path, made.root / "lib" / path.name, follow_symlinks=False)
    shutil.copy(base / "bin" / f"python{minor}", made.root / "bin" / f"python{minor}")
    for name in ("python", "python3"):
        (made.root / "bin" / name).symlink_to(f"python{minor}")
    patchelf = f"{os.path.dirname(sys.executable)}/patchelf"
    binaries = [p for p in made.root.rglob("*") if not p.is_symlink() and _is_elf(p)]
    # As conda-build does it: relative first, so that it runs wherever it lies.
    for where, files in _by_depth(binaries, made.root).items():
        path = f"$ORIGIN/{where}:{PLACEHOLDER}/lib"
        subprocess.run([patchelf, "--set-rpath", path, *files], check=True)
    for path in made.root.rglob("*.py"):
        text = path.read_bytes()
        if str(base).encode() in text:
            path.write_bytes(text.replace(str(base).encode(), PLACEHOLDER.encode()))
    return made


def _by_depth(binaries: list[Path], root: Path) -> dict[str, list[Path]]:
    """Return binaries by the way from them to the libraries."""
    found: dict[str, list[Path]] = {}
    for path in binaries:
        found.setdefault(os.path.relpath(root / "lib", path.parent), []).append(path)
    return found


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {one for one in names if one in _LEFT_OUT or one.startswith("config-")}


def _is_elf(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def wheel_package(folder: Path, name: str, version: str, minor: str, cache: str) -> Recipe:
    """Return a package made of a wheel of the package index, fetched with uv's `cache`."""
    short = f"py{minor.replace('.', '')}"
    after = f"3.{int(minor[2:]) + 1}"
    made = Recipe(folder, name, version, f"{short}_0", depends=[f"python >={minor},<{after}.0a0"])
    site = made.root / "lib" / f"python{minor}" / "site-packages"
    subprocess.run(
        [
            uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
            "--python-version", minor, "--target", site, "--cache-dir", cache,
            f"{name}=={version}",
        ],
        check=True,
    )  # fmt: skip
    for left in (*site.glob("bin"), *site.glob(".lock"), *site.rglob("tests")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return made


def noarch_package(folder: Path) -> Recipe:
    """Return a package for any Python, with a command."""
    made = Recipe(
        folder, "greeting", "2.1", "pyh0_0", depends=["python >=3.6"], subdir="noarch",
        noarch="python", arch=None, platform=None,
    )  # fmt: skip
    made.write("site-packages/greeting.py", "def main():\n    print('hello from a command')\n")
    info = "site-packages/greeting-2.1.dist-info"
    made.write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 2.1\n")
    made.write(f"{info}/RECORD", "greeting.py,,\n")
    made.link = {
        "noarch": {"type": "python", "entry_points": ["greet = greeting:main"]},
        "package_metadata_version": 1,
    }
    return made


def small_packages(folder: Path) -> list[Recipe]:
    """Return packages without a Python: what activation does, what the machine must have."""
    tool = Recipe(folder, "tool", "1.0", "h1_0", depends=["__glibc >=2.17"])
    tool.write("bin/tool", f"#!/bin/sh\necho {PLACEHOLDER}/share\n", executable=True)
    tool.write("share/tool.txt", f"root={PLACEHOLDER}\n")
    tool.write("share/tool.bin", f"\0{PLACEHOLDER}/share\0end\0")
    tool.write(
        "etc/conda/activate.d/tool.sh",
        'export TOOL_HOME="$CONDA_PREFIX/share"\nexport TOOL_SEEN="it\'s $CONDA_SHLVL"\n',
    )
    newer = Recipe(folder, "tool", "2.0", "h1_0", depends=["libtool-not-there >=3"])
    newer.write("share/tool.txt", "2\n")
    driver = Recipe(folder, "needs-gpu", "1.0", "h1_0", depends=["__cuda >=9"])
    driver.write("share/gpu.txt", "gpu\n")
    return [tool, newer, driver]


def make(folder: Path, pythons: dict[str, str], numpy: dict[str, str], cache: str) -> Path:
    """Make a channel: NumPy, the second Python and what has a command in the newer format.

    Args:
        folder: where; must be empty.
        pythons: by minor version, the executable of a Python of this machine.
        numpy: by minor version of Python, the NumPy for it.
        cache: uv's cache.

    Returns:
        The channel's folder.
    """
    channel, making = folder / "channel", folder / "making"
    (channel / "noarch").mkdir(parents=True)
    first, *newer = [python_package(making, executable) for executable in pythons.values()]
    newer += [wheel_package(making, "numpy", v, minor, cache) for minor, v in numpy.items()]
    newer.append(noarch_package(making))
    for recipe in newer:
        recipe.form = CONDA
    recipes = [first, *newer, *small_packages(making)]
    for recipe in recipes:
        recipe.pack(channel)
    shutil.rmtree(making)
    index(channel)
    return channel


def index(channel: Path) -> None:
    """Write what a channel says of its packages."""
    from rattler.index import index_fs

    asyncio.run(index_fs(channel, write_shards=False))
