"""Datastores: what lies where, what is copied, what is refused."""

from __future__ import annotations

import os

import pytest

from rechain.data import DataPath, DataReference, Dataset, Datastore
from rechain.data.output import OutputFileDatasetConfig
from rechain.exceptions import NotBuiltError, UserErrorException
from rechain.workspace import Workspace

pytestmark = pytest.mark.fast


@pytest.fixture
def store(home) -> Datastore:
    return Workspace.local().get_default_datastore()


@pytest.fixture
def mnist(home):
    folder = home / "mnist"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt", ".hidden"):
        (folder / name).write_text(name)
    return folder


def files(folder) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(at, name), folder)
        for at, _, names in os.walk(folder)
        for name in names
    )


def test_looking_makes_nothing(home, store) -> None:
    assert (store.name, store.datastore_type) == ("workspaceblobstore", "Local")
    assert list(Workspace.local().datastores) == ["workspaceblobstore", "workspacefilestore"]
    assert Datastore.get(Workspace.local(), "workspaceblobstore").folder == store.folder
    assert not (home / ".rechain").exists()
    with pytest.raises(
        UserErrorException, match="no datastore 'nope'; it has workspaceblobstore, w"
    ):
        Datastore.get(Workspace.local(), "nope")


def test_a_folder_is_uploaded_and_downloaded(store, mnist, home, capsys) -> None:
    reference = store.upload(mnist, "data")
    assert capsys.readouterr().out == "Uploaded 3 of 3 files to workspaceblobstore\n"
    assert files(reference.local_path) == [".hidden", "a.txt", "sub/b.txt"]
    assert reference.path_on_datastore == "data"
    assert store.download(home / "out", show_progress=False) == 3
    assert files(home / "out") == ["data/.hidden", "data/a.txt", "data/sub/b.txt"]
    assert store.download(home / "out", "data/sub") == 0  # there already
    assert store.download(home / "out", "data/sub", overwrite=True) == 1
    assert store.download(home / "out", "nope") == 0


def test_what_is_there_stays_unless_told_otherwise(store, mnist) -> None:
    store.upload(mnist, "data", show_progress=False)
    (mnist / "a.txt").write_text("new")
    (mnist / "c.txt").write_text("c")
    store.upload(mnist, "data", show_progress=False)
    folder = store.path("data").local_path
    assert files(folder) == [".hidden", "a.txt", "c.txt", "sub/b.txt"]
    with open(f"{folder}/a.txt") as file:
        assert file.read() == "a.txt"
    store.upload(mnist, "data", overwrite=True)
    with open(f"{folder}/a.txt") as file:
        assert file.read() == "new"


def test_files_are_uploaded_below_what_they_have_in_common(store, mnist, home) -> None:
    chosen = [mnist / "a.txt", mnist / "sub" / "b.txt"]
    store.upload_files(chosen)
    assert files(store.folder) == ["a.txt", "sub/b.txt"]
    store.upload_files(chosen, relative_root=home, target_path="q")
    assert files(store.path("q").local_path) == ["mnist/a.txt", "mnist/sub/b.txt"]
    assert store.upload_files([]).path_on_datastore == ""


def test_bad_uploads(store, mnist, home) -> None:
    with pytest.raises(UserErrorException, match="not a folder"):
        store.upload(mnist / "a.txt")
    with pytest.raises(UserErrorException, match="is not a file"):
        store.upload_files([mnist])
    with pytest.raises(UserErrorException, match="must be a list"):
        store.upload_files(str(mnist / "a.txt"))
    with pytest.raises(UserErrorException, match="which is not in it"):
        store.upload_files([mnist / "a.txt"], relative_root=mnist / "sub")
    for path in ("../x", "a/../../x", "/../x"):
        with pytest.raises(UserErrorException, match="leads out of the datastore"):
            store.upload(mnist, path)
    assert not (home / ".rechain").exists()
    with pytest.raises(NotBuiltError, match="Use register"):
        Datastore.register_azure_data_lake(Workspace.local(), "x")


def test_a_full_disk_leaves_no_half_file(store, mnist, small_disk) -> None:
    (mnist / "big").write_bytes(b"x" * 8_000_000)
    store.upload(mnist, "data", show_progress=False)
    with pytest.raises(UserErrorException, match="cannot be copied"):
        store.download(small_disk / "out")
    assert [name for name in files(small_disk) if "big" in name] == []


def test_a_reference_names_its_variable_and_its_place(store) -> None:
    reference = store.path("mnist", "data").as_mount()
    assert str(reference) == "$AZUREML_DATAREFERENCE_data"
    assert reference.local_path == os.path.join(store.folder, "mnist")
    assert store.path().data_reference_name == "workspaceblobstore"
    # v1 forgets what it is told here; a deliberate difference.
    assert reference.as_download(overwrite=True).overwrite is True
    for wrong in (None, "workspaceblobstore", 3):
        with pytest.raises(UserErrorException, match="must be a Datastore"):
            DataReference(wrong)
    with pytest.raises(UserErrorException, match="must be a str"):
        store.path(3)


def test_a_dataset_is_made_of_files(store, mnist, home) -> None:
    store.upload(mnist, "data", show_progress=False)
    whole = Dataset.File.from_files((store, "data"))
    assert whole.to_path() == ["/.hidden", "/a.txt", "/sub/b.txt"]
    text = Dataset.File.from_files([(store, "data/**/*.txt"), DataPath(store, "data/a.txt")])
    assert text.to_path() == ["/a.txt", "/sub/b.txt"]
    copies = text.download(home / "out")
    assert [os.path.relpath(path, home) for path in copies] == ["out/a.txt", "out/sub/b.txt"]
    with pytest.raises(UserErrorException, match="overwrite=True"):
        text.download(home / "out")
    assert text.download(home / "out", overwrite=True) == copies
    assert Dataset.File.from_files((store, "nope"), validate=False).to_path() == []
    with pytest.raises(UserErrorException, match="no such files"):
        Dataset.File.from_files((store, "nope"))
    with pytest.raises(NotBuiltError, match="Upload them"):
        Dataset.File.from_files("/data/x")
    with pytest.raises(UserErrorException, match="must be a DataPath"):
        Dataset.File.from_files(3)


def test_a_folder_becomes_a_dataset(store, mnist) -> None:
    made = Dataset.File.upload_directory(mnist, (store, "up"), pattern="*.txt")
    assert made.to_path() == ["/a.txt", "/sub/b.txt"]
    assert files(store.folder) == ["up/a.txt", "up/sub/b.txt"]


def test_registered_datasets_have_versions(store, mnist) -> None:
    workspace = Workspace.local()
    store.upload(mnist, "data", show_progress=False)
    made = Dataset.File.from_files((store, "data"))
    first = made.register(workspace, "mnist", "digits", {"a": "b"})
    assert (first.name, first.version, first.description) == ("mnist", 1, "digits")
    assert made.register(workspace, "mnist").id == first.id
    other = Dataset.File.from_files((store, "data/a.txt"))
    with pytest.raises(UserErrorException, match="create_new_version=True"):
        other.register(workspace, "mnist")
    assert other.register(workspace, "mnist", create_new_version=True).version == 2
    assert Dataset.get_by_name(workspace, "mnist").to_path() == ["/a.txt"]
    assert Dataset.get_by_name(workspace, "mnist", version=1).tags == {"a": "b"}
    assert Dataset.get_by_id(workspace, first.id).version == 1
    assert list(workspace.datasets) == ["mnist"]
    with pytest.raises(UserErrorException, match="no version '3'; it has 1, 2"):
        Dataset.get_by_name(workspace, "mnist", 3)
    with pytest.raises(UserErrorException, match="no dataset 'nope'"):
        Dataset.get_by_name(workspace, "nope")


def test_inputs_and_outputs_have_names_of_variables(store) -> None:
    made = Dataset.File.from_files((store, "data"), validate=False)
    assert made.as_named_input("x").as_mount("/data").path_on_compute == "/data"
    assert made.as_mount().name.startswith("input__")
    for name in ("9x", "a b", "", "a-b"):
        with pytest.raises(UserErrorException, match="digits and underscores"):
            made.as_named_input(name)
        with pytest.raises(UserErrorException, match="digits and underscores"):
            OutputFileDatasetConfig(name)
    with pytest.raises(UserErrorException, match="a datastore and a path in it"):
        OutputFileDatasetConfig("o", destination=store)
