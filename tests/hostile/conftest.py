"""The command line for hostile inputs."""

from tests.harness.conftest import _stops, asdbench

__all__ = ["_stops", "asdbench"]
