"""The names that scripts written for the Azure ML SDK v1 import, inside a Rechain job."""

import pkgutil

# Other modules of another `azureml` distribution in the environment stay importable.
__path__ = pkgutil.extend_path(__path__, __name__)
