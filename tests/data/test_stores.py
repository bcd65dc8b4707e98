"""Datastores elsewhere: registered in v1's words, filled, read by runs, written by runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Workspace
from rechain.data import Dataset, Datastore, OutputFileDatasetConfig
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.testing.web import WebServer
from tests.conftest import missing

# Azurite's well-known account, published in its documentation.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

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


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Azurite, Microsoft's server of the blob protocol."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm, which brings Azurite")
    folder = tmp_path_factory.mktemp("azurite")
    made = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", "azurite@3"], cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        missing(f"package registry with Azurite ({made.stderr.strip()[-300:]})")
    server = subprocess.Popen(
        [folder / "node_modules/.bin/azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", "0",
         "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"],
        stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    try:
        found = None
        for line in server.stdout:
            if found := re.search(r"listens on http://(127\.0\.0\.1:\d+)", line):
                break
        assert found, "Azurite ended"
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield found[1]
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


@pytest.mark.matrix
@pytest.mark.parametrize("way", ["account_key", "sas_token"])
def test_azure_blobs(home, mnist, azurite, no_keyring, way) -> None:
    from azure.storage.blob import generate_container_sas

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


@pytest.mark.engines
def test_s3_of_a_fake_server_speaks_its_protocol(home, mnist, no_keyring, monkeypatch) -> None:
    """moto's server is a mock of S3; the client, s3fs, is the real one."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("RECHAIN_DATASTORE_S3STORE_KEY", "someone")
        monkeypatch.setenv("RECHAIN_DATASTORE_S3STORE_SECRET", "hunter2hunter2")
        store = Datastore.register(
            Workspace.local(), "s3store", "s3://bucket/part",
            options={"endpoint_url": f"http://{host}:{port}"}, create_if_not_exists=True,
        )  # fmt: skip
        check(home, mnist, store, ["hunter2hunter2"])
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
    finally:
        server.stop()


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
