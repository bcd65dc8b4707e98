"""v1's `azureml._restclient.snapshots_client`: scripts set how large a snapshot may be here."""

from __future__ import annotations

SNAPSHOT_MAX_SIZE_BYTES = 1073741824

__all__ = ["SNAPSHOT_MAX_SIZE_BYTES"]
