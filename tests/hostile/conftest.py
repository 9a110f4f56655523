"""What tests of the borders share."""

from tests.harness.conftest import empty_mlflow

__all__ = ["empty_mlflow"]
