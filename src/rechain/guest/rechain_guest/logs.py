"""The half of a run that says things: metrics, tags and properties."""

import os
import time

from . import lines, values
from .exceptions import AzureMLException, UserErrorException

__all__ = ["Logs"]


class Logs(object):
    """What a script may log. The signatures and the accepted values are those of the SDK v1.

    A subclass says where a line goes (`_say`, `_say_artifact`) and what was said (`_rows`).
    """

    def log(self, name, value, description="", step=None):
        """Log one value.

        Args:
            name: the metric.
            value: a number, a bool, a string or None; NumPy and CuPy scalars and Chainer
                variables without dimensions count as numbers; of any other object the `repr`.
            description: what it is.
            step: where on the x axis; logging a step again replaces its value.

        Raises:
            UserErrorException: the value is a list, a range or a generator.
        """
        self._say("scalar", str(name), values.scalar(value), values.step_of(step), description)

    def log_list(self, name, value, description=""):
        """Log several values in a row; an empty list logs nothing.

        Raises:
            UserErrorException: `value` is no list.
            AzureMLException: it holds lists.
        """
        column = values.column(value, "the list {}".format(name))
        if column:
            self._say("list", str(name), column, None, description)

    def log_row(self, name, description=None, **kwargs):
        """Log one row of a table, a value per column.

        Raises:
            AzureMLException: a column holds a list.
        """
        row = {k: values.cell(v, "column {} of a row".format(k)) for k, v in kwargs.items()}
        if row:
            self._say("row", str(name), row, None, description)

    def log_table(self, name, value, description=""):
        """Log a table.

        Args:
            name: the metric.
            value: a dict of columns, all of one length; single values are one row.
            description: what it is.

        Raises:
            AzureMLException: the columns have different lengths, or hold lists.
        """
        columns, single = {}, True
        for key, entry in value.items():
            if _is_column(entry):
                columns[str(key)] = values.column(entry, "column {}".format(key))
                single = False
            else:
                columns[str(key)] = [values.plain(entry)]
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join("{}: {}".format(k, len(c)) for k, c in columns.items())
            raise AzureMLException("Columns must have the same length, not " + lengths)
        if single and columns:
            row = {key: column[0] for key, column in columns.items()}
            self._say("row", str(name), row, None, description)
        elif columns:
            self._say("table", str(name), columns, None, description)

    def log_image(self, name, path=None, plot=None, description=""):
        """Log an image.

        Args:
            name: the metric.
            path: an image file; or
            plot: a matplotlib figure, or the module `matplotlib.pyplot`.
            description: what it shows.

        Raises:
            AzureMLException: not exactly one of `path` and `plot` is given, or it is no image.
        """
        if (path is None) == (plot is None):
            raise AzureMLException("log_image needs either path or plot")
        if plot is not None:
            source = values.figure_png(plot)
            artifact = "{}_{}.png".format(name, int(time.time()))
        else:
            source = os.fspath(path)
            artifact = source if not os.path.isabs(source) else os.path.relpath(source)
            if ".." in artifact.replace("\\", "/").split("/"):
                artifact = os.path.basename(source)
            with open(source, "rb") as file:
                if not values.is_image(file.read(256)):
                    raise AzureMLException("{} is not an image".format(source))
        self._say_artifact("image", str(name), artifact, source, description)

    def log_confusion_matrix(self, name, value, description=""):
        """Log a confusion matrix, as a dict or JSON text with v1's `schema_type` and `data`.

        Raises:
            UserErrorException: it is not JSON.
        """
        self._say_document("confusion_matrix", name, value, description)

    def log_accuracy_table(self, name, value, description=""):
        """Log an accuracy table; see `log_confusion_matrix`."""
        self._say_document("accuracy_table", name, value, description)

    def log_residuals(self, name, value, description=""):
        """Log residuals; see `log_confusion_matrix`."""
        self._say_document("residuals", name, value, description)

    def log_predictions(self, name, value, description=""):
        """Log predictions; see `log_confusion_matrix`."""
        self._say_document("predictions", name, value, description)

    def tag(self, key, value=None):
        """Set one tag; a value that is no string becomes one."""
        self._say("tag", str(key), _label(value))

    def set_tags(self, tags):
        """Set several tags."""
        for key, value in tags.items():
            self.tag(key, value)

    def remove_tags(self, tags):
        """Remove tags by name.

        Returns:
            The tags that are left.
        """
        for key in [tags] if isinstance(tags, str) else tags:
            self._say("untag", str(key))
        return self.get_tags()

    def add_properties(self, properties):
        """Set properties. What is set once stays.

        Raises:
            UserErrorException: one of them has another value already.
        """
        present = self.get_properties()
        for key, value in properties.items():
            if present.get(str(key), _label(value)) != _label(value):
                raise UserErrorException(
                    "property {} is already {!r}: properties do not change".format(
                        key, present[str(key)]
                    )
                )
        for key, value in properties.items():
            self._say("property", str(key), _label(value))

    def get_tags(self):
        """Return the run's tags."""
        return lines.labels({}, self._rows())

    def get_properties(self):
        """Return the run's properties."""
        return lines.labels({}, self._rows(), kind="property")

    @property
    def tags(self):
        """The run's tags."""
        return self.get_tags()

    @property
    def properties(self):
        """The run's properties."""
        return self.get_properties()

    def flush(self, timeout_seconds=300):
        """Do nothing: each line is in its file when the call that logs it returns."""

    def _say_document(self, schema, name, value, description):
        value = values.document(value)
        value.setdefault("schema_type", schema)
        self._say("json", str(name), value, None, description)

    def _say(self, kind, name, value=None, step=None, description=None):
        raise NotImplementedError

    def _say_artifact(self, kind, name, artifact, source, description):
        raise NotImplementedError

    def _rows(self):
        raise NotImplementedError


def _label(value):
    return value if value is None or isinstance(value, str) else str(values.plain(value))


def _is_column(value):
    if isinstance(value, (str, bytes)):
        return False
    shape = getattr(value, "shape", None)
    return shape != () if shape is not None else hasattr(value, "__iter__")
