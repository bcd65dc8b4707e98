"""A private registry on a loopback port, for the tests of images."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
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
        self.own = self.address
        self.stalled, self.goes_on = threading.Event(), threading.Event()
        # What nobody reads would stop it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def stall_after(self, size):
        """Have it reached at another port, which stops once it has sent so many bytes."""
        host, _, port = self.own.partition(":")
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        left = [size]

        def pump(source, target, counted):
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    if counted:
                        left[0] -= len(data)
                        if left[0] < 0:
                            self.stalled.set()
                            self.goes_on.wait()
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def accept():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server = socket.create_connection((host, int(port)))
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listener

    @property
    def login(self):
        return {"address": self.address, "username": USER}

    def push(self, engine, content, name):
        """Put a small image into the registry, and leave what the engine has as it was."""
        reference = f"{self.own}/{name}"
        before = engine.run("images", "--quiet", "--no-trunc", reference).strip()
        archive = f"{engine.root}/small.tar"
        with tarfile.open(archive, "w") as file:
            member = tarfile.TarInfo("content")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        engine.run("import", archive, reference)
        found = engines.find()[0]
        login = {"address": self.own, "username": USER}
        with registry.credentials(found, reference, login, PASSWORD) as extra:
            said = found.call("push", reference, extra=extra)
        assert said.code == 0, said.errors
        engine.run("rmi", reference)
        if before:
            engine.run("tag", before, reference)
        return reference


@contextlib.contextmanager
def private_registry(engine, folder, monkeypatch, stall_after=None):
    """A private registry that an engine may reach without TLS.

    With `stall_after` it stops once it has sent so many bytes, sets `stalled`, and waits for
    `goes_on`.
    """
    if shutil.which("docker-registry") is None:
        missing("docker-registry (Debian: docker-registry)")
    made = Registry(folder / "registry")
    listener = None if stall_after is None else made.stall_after(stall_after)
    if engine.name == "podman":  # docker trusts the loopback
        path = folder / "registries.conf"
        path.write_text(
            "".join(
                f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
                for address in sorted({made.address, made.own})
            )
        )
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    try:
        yield made
    finally:
        made.goes_on.set()
        if listener is not None:
            listener.close()
        made.stop()
