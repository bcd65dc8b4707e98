"""See `azureml`."""

import os
import pkgutil
import sys

from rechain_guest.datasets import Dataset
from rechain_guest.experiment import Experiment, Workspace
from rechain_guest.models import Model
from rechain_guest.run import Run, get_run

__path__ = pkgutil.extend_path(__path__, __name__)

for _folder in __path__[1:]:
    _real = os.path.isdir(os.path.join(os.path.dirname(_folder), "_base_sdk_common"))
    if _real and os.environ.get("RECHAIN_RANK", "0") == "0" and sys.stderr is not None:
        sys.stderr.write(
            "rechain: inside a job azureml.core is Rechain's, which masks the azureml-core "
            "in {}\n".format(os.path.dirname(os.path.dirname(_folder)))
        )

# The release of the SDK whose behaviour is followed; the local part says who answers.
VERSION = "1.61.0+rechain"
__version__ = VERSION

__all__ = [
    "VERSION", "Dataset", "Experiment", "Model", "Run", "Workspace", "__version__", "get_run",
]  # fmt: skip
