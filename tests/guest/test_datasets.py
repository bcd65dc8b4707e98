"""What a script in a job downloads from the web, here from a server of the test's own."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rechain.guest.rechain_guest import datasets
from rechain.guest.rechain_guest.exceptions import AzureMLException, UserErrorException

pytestmark = pytest.mark.fast

SCRIPT = """
import glob, sys
from azureml.core import Dataset
from azureml.core.dataset import Dataset as Same
from azureml.opendatasets import MNIST

assert Same is Dataset
files = Dataset.File.from_files([{0!r} + "/mnist/a.gz", {0!r} + "/mnist/b%20c.gz"])
assert "urllib.request" not in sys.modules
paths = files.download("data", overwrite=True)
assert [open(path).read() for path in paths] == ["/mnist/a.gz", "/mnist/b%20c.gz"]
assert glob.glob("data/**/b c.gz", recursive=True)
print(len(MNIST.get_file_dataset().to_path()))
"""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body) + ("short" in self.path)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web(monkeypatch):
    """The address of a server whose files hold their own path; any but /missing is there."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_of_the_web_in_a_job(old_job, web):
    assert old_job.run(SCRIPT.format(web)).stdout.split()[0] == "4"


def test_what_is_there_is_not_replaced_unasked(web, tmp_path):
    files = datasets.Dataset.File.from_files(f"{web}/a")
    (path,) = files.download(tmp_path)
    with pytest.raises(UserErrorException, match="there already; say overwrite=True"):
        files.download(tmp_path)
    assert files.download(tmp_path, overwrite=True) == [path]
    assert path.startswith(str(tmp_path))
    assert files.download()[0] != path


def test_what_cannot_be_had_leaves_nothing(web, tmp_path):
    for name, words in (
        ("missing", "404|File not found|Not Found"),
        ("short", "too early|Incomplete"),
    ):
        files = datasets.Dataset.File.from_files(f"{web}/{name}")
        with pytest.raises(AzureMLException, match=f"/{name} cannot be had: .*({words})"):
            files.download(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    both = datasets.Dataset.File.from_files([f"{web}/missing", f"{web}/a"])
    assert len(both.download(tmp_path, ignore_not_found=True)) == 1
    with pytest.raises(AzureMLException, match=r"cannot be had: .*refused"):
        datasets.Dataset.File.from_files("http://127.0.0.1:1/x").download(tmp_path)


def test_an_address_cannot_leave_the_folder(tmp_path):
    files = datasets.Dataset.File.from_files("http://me:secret@host/../..%2F../etc/passwd")
    assert files.to_path() == ["host/etc/passwd"]


def test_only_addresses_of_the_web():
    for path in ("a.txt", ["https://host/a", "/etc/passwd"], [3]):
        with pytest.raises(UserErrorException, match="must start with http"):
            datasets.Dataset.File.from_files(path)
    with pytest.raises(UserErrorException, match="as an input"):
        datasets.Dataset.get_by_name(None, "digits")


@pytest.mark.parametrize(("part", "count"), [(None, 4), ("all", 4), ("train", 2), ("test", 2)])
def test_the_parts_of_mnist(part, count):
    places = datasets.MNIST.get_file_dataset(part).to_path()
    assert len(places) == count
    assert all("ubyte.gz" in place for place in places)
    with pytest.raises(UserErrorException, match="'all', 'train' or 'test'"):
        datasets.MNIST.get_file_dataset("validation")
