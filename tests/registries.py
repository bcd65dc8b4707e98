"""A private registry on a loopback port, for the tests of images."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import threading

import bcrypt

from rechain.environment import engines
from rechain.environment.image import registry
from tests.conftest import missing

__all__ = ["PASSWORD", "USER", "Registry", "private_registry"]

USER, PASSWORD = "me", "pass:w0rd with spaces"


class Registry:
    """A registry on a loopback port that asks for a name and a password."""

    def __init__(self, folder):
        folder.mkdir()
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
        (folder / "config.yml").write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
            "http: {addr: '127.0.0.1:0'}\n"
            f"auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"
        )
        # It would take REGISTRY_AUTH_FILE, which is podman's, for a setting of its own.
        environ = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environ,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.address = ""
        for line in self.process.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                self.address = found[1]
                break
        assert self.address, "the registry does not start"
        # What nobody reads would stop it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    @property
    def login(self):
        return {"address": self.address, "username": USER}

    def push(self, engine, content, name):
        """Put a small image into the registry, and leave what the engine has as it was."""
        reference = f"{self.address}/{name}"
        before = engine.run("images", "--quiet", "--no-trunc", reference).strip()
        archive = f"{engine.root}/small.tar"
        with tarfile.open(archive, "w") as file:
            member = tarfile.TarInfo("content")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        engine.run("import", archive, reference)
        found = engines.find()[0]
        with registry.credentials(found, reference, self.login, PASSWORD) as extra:
            said = found.call("push", reference, extra=extra)
        assert said.code == 0, said.errors
        engine.run("rmi", reference)
        if before:
            engine.run("tag", before, reference)
        return reference


@contextlib.contextmanager
def private_registry(engine, folder, monkeypatch):
    """A private registry that an engine may reach without TLS."""
    if shutil.which("docker-registry") is None:
        missing("docker-registry (Debian: docker-registry)")
    made = Registry(folder / "registry")
    if engine.name == "podman":  # docker trusts the loopback
        path = folder / "registries.conf"
        path.write_text(f'[[registry]]\nlocation = "{made.address}"\ninsecure = true\n')
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    yield made
    made.stop()
