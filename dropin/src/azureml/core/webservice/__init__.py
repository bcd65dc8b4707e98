"""v1's `azureml.core.webservice`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = (
    "Load the files of a run with `Run.download_file`, and serve them with a program of yours."
)

AciWebservice = planned(__name__, "AciWebservice", _MEANWHILE)
AksEndpoint = planned(__name__, "AksEndpoint", _MEANWHILE)
AksWebservice = planned(__name__, "AksWebservice", _MEANWHILE)
LocalWebservice = planned(__name__, "LocalWebservice", _MEANWHILE)
Webservice = planned(__name__, "Webservice", _MEANWHILE)

__all__ = ["AciWebservice", "AksEndpoint", "AksWebservice", "LocalWebservice", "Webservice"]
