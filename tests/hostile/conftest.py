"""What tests of the borders share."""

from tests.harness.conftest import _stops, asdbench, empty_mlflow

__all__ = ["_stops", "asdbench", "empty_mlflow"]
