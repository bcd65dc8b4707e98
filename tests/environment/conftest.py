"""A cache shared by the tests that build, the Pythons of this machine, and an index of our own."""

from __future__ import annotations

import base64
import glob
import hashlib
import io
import json
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rechain.environment import interpreters
from rechain.recipes import Cell, Recipe


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache that tests share where they do not look at how it came about."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def python(cache):
    """A function: the interpreter of a minor version, as the search finds it."""

    def find(minor):
        for one in interpreters.found(cache):
            if one.version.startswith(f"{minor}."):
                return one
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have Python {minor}")
        return pytest.skip(f"this machine has no Python {minor}")

    return find


@pytest.fixture
def tiny_recipe():
    """A recipe of one small package, for every Python that may be here."""
    cells = tuple(
        Cell(f"3.{minor}", "2020-06-01T00:00:00Z", ("tiny==1.0",), ("helper<3",), ())
        for minor in range(6, 14)
    )
    return Recipe(
        name="tiny-1.0",
        framework="tiny",
        version="1.0",
        requires=("helper",),
        with_mpi=(),
        cells=cells,
        owned={},
        build_constraints=(),
        build_undated=(),
        build_extra={},
        document={},
    )


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any Python, as far as PATH, HOME and the managers' variables tell."""
    for name in list(os.environ):
        if name.startswith(("PYENV_", "ASDF_", "UV_", "MISE_", "CONDA_", "RYE_")):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    # Where uv would download Pythons from: nothing listens there.
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    return tmp_path


def wheel(name, version, requires=(), record=None):
    """Return a wheel that holds one module; `record` stands in place of a true RECORD."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in requires)
    members = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},sha256={_hash(text)},{len(text)}\n" for path, text in members.items()]
    lines.append(f"{info}/RECORD,,\n")
    members[f"{info}/RECORD"] = "".join(lines) if record is None else record + lines[-1]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
    return data.getvalue()


class Index:
    """A package index on a loopback port (PEP 691), with or without dates and a password."""

    def __init__(self):
        self.files = {}
        self.dated = True
        self.hashed = True
        self.password = None
        self.seen_in_argv = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, user=""):
        return f"http://{user}127.0.0.1:{self.server.server_port}/simple"

    def add(self, name, version, uploaded, requires=(), record=None):
        """Offer a wheel that holds one module; `record` stands in place of a true RECORD."""
        made = wheel(name, version, requires, record)
        self.files[f"{name}-{version}-py3-none-any.whl"] = (uploaded, made)

    def _page(self, name):
        files = [
            {
                "filename": file,
                "url": f"/files/{file}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()} if self.hashed else {},
                **({"upload-time": uploaded} if self.dated else {}),
            }
            for file, (uploaded, data) in self.files.items()
            if file.startswith(f"{name}-")
        ]
        return {"meta": {"api-version": "1.1"}, "name": name, "files": files}

    def _handler(index):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers.get("Authorization", "")
                if index.password is not None:
                    index.seen_in_argv += [c for c in _command_lines() if index.password in c]
                    wanted = base64.b64encode(f"user:{index.password}".encode()).decode()
                    if given != f"Basic {wanted}":
                        self.send_response(401)
                        self.send_header("WWW-Authenticate", 'Basic realm="index"')
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                kind, _, name = self.path.strip("/").partition("/")
                if kind == "files" and name in index.files:
                    body, content = index.files[name][1], "application/zip"
                elif kind == "simple" and index._page(name)["files"]:
                    body = json.dumps(index._page(name)).encode()
                    content = "application/vnd.pypi.simple.v1+json"
                else:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", content)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        return Handler


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _command_lines():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                yield file.read().decode(errors="replace")
        except OSError:
            continue


@pytest.fixture
def index(monkeypatch, tmp_path):
    """An index that uv is told of by its own variable; uv's cache is empty."""
    offered = Index()
    monkeypatch.setenv("UV_DEFAULT_INDEX", offered.url())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    offered.add("tiny", "1.0", "2020-01-01T00:00:00Z", ["helper"])
    offered.add("helper", "1.0", "2020-01-01T00:00:00Z")
    offered.add("helper", "2.0", "2021-01-01T00:00:00Z")
    yield offered
    offered.server.shutdown()
    offered.server.server_close()
