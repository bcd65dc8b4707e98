"""Models: files that a workspace keeps by name and version."""

from __future__ import annotations

import os
import shutil

from rechain.exceptions import WebserviceException
from rechain.guest.rechain_guest import models as guest
from rechain.planned import azures, unbuilt
from rechain.record import jsonl
from rechain.workspace import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rechain.workspace.made import Made
    from rechain.workspace.run import Run
    from rechain.workspace.workspace import Workspace

    Labels = dict[str, str]
    Wanted = list[Any] | dict[str, str] | None
    # Inside of the class `list` is v1's method.
    Names = list[str]
    Models = list["Model"]

__all__ = ["Model", "register_of_run"]


@unbuilt(
    "Load the files with `Model.get_model_path`, and serve them with a program of yours.",
    "deploy", "package", "print_configuration", "profile", "add_dataset_references",
)  # fmt: skip
@azures("`Model.get_model_path` says where the files lie.", "get_sas_urls")
class Model:
    """A model of a workspace, found by its name or id.

    Args:
        workspace: the workspace.
        name: the model's name; its newest version is taken.
        id: name and version, `mnist:3`, in place of `name`.
        tags: only a version with these: names, or `[name, value]`.
        properties: the same for properties.
        version: the version.
        run_id: only a version that this run made.
        model_framework: only a version of this framework.
        expand: accepted for v1's sake.
        **kwargs: accepted for v1's sake.

    Attributes:
        workspace: its workspace.
        name: its name.
        version: its version, from 1.
        id: `name:version`.
        description: what is said of it, or None.
        tags: its tags.
        properties: its properties.
        created_time: when it was registered, a `datetime` in UTC.
        model_framework: the framework it is of, or None.
        model_framework_version: that framework's version, or None.
        run_id: the run that made it, or None.
        experiment_name: that run's experiment, or None.

    Raises:
        WebserviceException: there is no such model.
    """

    class Framework:
        """v1's names of frameworks."""

        CUSTOM = "Custom"
        TENSORFLOW = "TensorFlow"
        SCIKITLEARN = "ScikitLearn"
        ONNX = "Onnx"
        TFKERAS = "TfKeras"
        PYTORCH = "PyTorch"
        MULTI = "Multi"

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Wanted = None,
        properties: Wanted = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
        **kwargs: Any,
    ) -> None:
        if id is not None:
            name, _, number = id.partition(":")
            version = int(number) if number.isdigit() else version
        if name is None:
            raise WebserviceException("name is None, and id too; one of them says which model.")
        for number_of in reversed(models.versions(workspace, name)):
            document = models.read(workspace, name, number_of)
            if document is not None and models.fits(
                document, tags, properties, version, run_id, model_framework
            ):
                self._take(workspace, document)
                return
        raise WebserviceException(
            f"ModelNotFound: there is no model {id or name!r} of this kind in the workspace "
            f"{workspace.path}; there is: {', '.join(models.names(workspace)) or 'none'}."
        )

    def _take(self, workspace: Workspace, document: dict[str, Any]) -> None:
        import datetime

        self.workspace = workspace
        self.name: str = document["name"]
        self.version: int = document["version"]
        self.id = f"{self.name}:{self.version}"
        self.description: str | None = document["description"]
        self.tags: Labels = document["tags"]
        self.properties: Labels = document["properties"]
        self.created_time = datetime.datetime.fromtimestamp(
            document["created"], datetime.timezone.utc
        )
        self.model_framework: str | None = document["framework"]
        self.model_framework_version: str | None = document["framework_version"]
        self.run_id: str | None = document["run_id"]
        self.experiment_name: str | None = document["experiment"]

    @property
    def run(self) -> Run | None:
        """The run that made it, or None."""
        return None if self.run_id is None else self.workspace.get_run(self.run_id)

    @property
    def url(self) -> str:
        """Where its files lie."""
        return f"file://{self._path}"

    @property
    def _path(self) -> str:
        return models.path_of(self.workspace, self.name, self.version)

    @staticmethod
    def register(
        workspace: Workspace,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: Labels | None = None,
        properties: Labels | None = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Names | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> Model:
        """Keep a file or a folder of this machine as the next version of a model.

        Args:
            workspace: where to.
            model_path: the file or folder.
            model_name: the model's name: letters, digits, '-', '.' and '_'.
            tags: labels.
            properties: labels that stay as they are.
            description: what to say of it.
            datasets: accepted for v1's sake.
            model_framework: one of `Model.Framework`, or any text.
            model_framework_version: that framework's version.
            child_paths: only these files of the folder.
            sample_input_dataset: accepted for v1's sake.
            sample_output_dataset: accepted for v1's sake.
            resource_configuration: accepted for v1's sake.

        Raises:
            WebserviceException: the name cannot be one, or there is no such file or folder.
        """
        for field, labels in (("tags", tags), ("properties", properties)):
            if not isinstance(labels or {}, dict):
                raise WebserviceException(f"{field} is {labels!r}; it must be a dict.")
        root = os.path.abspath(os.fspath(model_path))
        if not os.path.exists(root):
            raise WebserviceException(f"model_path is {model_path!r}: there is nothing there.")
        base = os.path.basename(root)
        files = {base: root}
        if os.path.isdir(root):
            found = (
                os.path.relpath(os.path.join(folder, file), root)
                for folder, _, names in os.walk(root)
                for file in names
            )
            wanted = None if child_paths is None else {os.path.normpath(c) for c in child_paths}
            for path in wanted or ():
                if path.startswith("..") or not os.path.isfile(os.path.join(root, path)):
                    raise WebserviceException(f"child_paths has {path!r}, no file of {root}.")
            files = {
                f"{base}/{inside}": os.path.join(root, inside)
                for inside in found
                if wanted is None or inside in wanted
            }
        workspace._make()
        document = guest.keep(
            workspace._paths.models, model_name, files, tags=tags, properties=properties,
            description=description, framework=model_framework,
            framework_version=model_framework_version,
        )  # fmt: skip
        return _made(workspace, document)

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Wanted = None,
        properties: Wanted = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> Models:
        """Return the models of a workspace, the newest of each name first.

        Args:
            workspace: the workspace.
            name: only of this name.
            tags: only with these: names, or `[name, value]`.
            properties: the same for properties.
            run_id: only what this run made.
            latest: only the newest of each name.
            dataset_id: accepted for v1's sake.
            expand: accepted for v1's sake.
            page_count: accepted for v1's sake.
            model_framework: only of this framework.
        """
        found = []
        for one in [name] if name is not None else models.names(workspace):
            for number in reversed(models.versions(workspace, one)):
                document = models.read(workspace, one, number)
                if document is None or not models.fits(
                    document, tags, properties, None, run_id, model_framework
                ):
                    continue
                found.append(_made(workspace, document))
                if latest:
                    break
        return found

    @staticmethod
    def get_model_path(
        model_name: str, version: int | None = None, _workspace: Workspace | None = None
    ) -> str:
        """Return where the file or folder of a model lies.

        Args:
            model_name: its name, or `name:version`.
            version: its version; the newest if left out.
            _workspace: its workspace; the one of the current folder if left out.

        Raises:
            WebserviceException: there is no such model.
        """
        if _workspace is None:
            from rechain.workspace.workspace import Workspace

            _workspace = Workspace.local()
        found: str = guest.content(_workspace._paths.models, model_name, version)
        return found

    def _content(self) -> str:
        found: str = guest.content(self.workspace._paths.models, self.name, self.version)
        return found

    def download(
        self, target_dir: str = ".", exist_ok: bool = False, exists_ok: bool | None = None
    ) -> str:
        """Copy the model's file or folder.

        Args:
            target_dir: into this folder; it is made.
            exist_ok: whether what is there of the same name is replaced.
            exists_ok: old name of `exist_ok`.

        Returns:
            The copy's path.

        Raises:
            WebserviceException: there is something of its name already, or it cannot be written.
        """
        source = self._content()
        target = os.path.join(target_dir, os.path.basename(source))
        if os.path.lexists(target) and not (exist_ok or exists_ok):
            raise WebserviceException(f"{target} is there already: exist_ok=True replaces it.")
        try:
            os.makedirs(target_dir, exist_ok=True)
            if os.path.isdir(source):
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            raise WebserviceException(
                f"{self.id} cannot be copied to {target}: {error}", error
            ) from error
        return target

    def delete(self) -> None:
        """Delete this version; its number is not given away again.

        Raises:
            WebserviceException: it is not there any more.
        """
        doomed = os.path.join(os.path.dirname(self._path), f".{self.version}-deleted")
        if models.read(self.workspace, self.name, self.version) is None:
            raise WebserviceException(f"the model {self.id} is not there any more.")
        os.rename(self._path, doomed)
        os.mkdir(self._path)  # so that its number is not given away again
        shutil.rmtree(doomed)

    def add_tags(self, tags: Labels) -> None:
        """Set tags."""
        self._change(tags={**self.tags, **models.as_text(tags)})

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Take tags away."""
        gone = set(tags)
        self._change(tags={name: text for name, text in self.tags.items() if name not in gone})

    def add_properties(self, properties: Labels) -> None:
        """Add properties; those there are stay as they are.

        Raises:
            WebserviceException: one of them is there already.
        """
        for name in properties:
            if name in self.properties:
                raise WebserviceException(f"the property {name!r} is set and cannot be changed.")
        self._change(properties={**self.properties, **models.as_text(properties)})

    def update(
        self,
        tags: Labels | None = None,
        description: str | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> None:
        """Replace the tags or the description; the other parameters are accepted for v1's sake."""
        if tags is not None:
            self._change(tags=models.as_text(tags))
        if description is not None:
            self._change(description=description)

    def update_tags_properties(
        self,
        add_tags: Labels | None = None,
        remove_tags: Iterable[str] | None = None,
        add_properties: Labels | None = None,
    ) -> None:
        """Do what `add_tags`, `remove_tags` and `add_properties` do."""
        self.add_tags(add_tags or {})
        self.remove_tags(remove_tags or ())
        self.add_properties(add_properties or {})

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it, as plain data."""
        return {
            "createdTime": self.created_time.isoformat(),
            "description": self.description,
            "experimentName": self.experiment_name,
            "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version,
            "id": self.id,
            "name": self.name,
            "properties": self.properties,
            "runId": self.run_id,
            "tags": self.tags,
            "url": self.url,
            "version": self.version,
        }

    @staticmethod
    def deserialize(workspace: Workspace, model_payload: dict[str, Any]) -> Model:
        """Return the model that `serialize` told of.

        Raises:
            WebserviceException: it is not there any more.
        """
        return Model(workspace, id=model_payload["id"])

    def _change(self, **values: Any) -> None:
        path = f"{self._path}/model.json"
        jsonl.write_atomic(path, {**jsonl.read(path), **values})
        self.__dict__.update(values)

    def __repr__(self) -> str:
        return f"Model(workspace={self.workspace!r}, name={self.name!r}, id={self.id!r})"


def register_of_run(run: Made, model_name: str, model_path: str | None, **described: Any) -> Model:
    """Keep files of a run as a model; see `Run.register_model`.

    Raises:
        ModelPathNotFoundException: the run has no such file or folder.
        WebserviceException: the name cannot be one.
    """
    from rechain.workspace import files

    listed = {file.name: file.paths[0] for file in files.listing(run._paths)}
    chosen = guest.choose(listed, str(model_path or model_name), run.id)
    document = guest.keep(
        run.experiment.workspace._paths.models, model_name, chosen, run_id=run.id,
        experiment=run.experiment.name, **described,
    )  # fmt: skip
    return _made(run.experiment.workspace, document)


def _made(workspace: Workspace, document: dict[str, Any]) -> Model:
    made = object.__new__(Model)
    made._take(workspace, document)
    return made
