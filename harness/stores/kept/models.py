"""Kept encoders in MLflow: each is a LoggedModel of its trial's run, with the trial's metrics and test recordings."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from harness.detection.bundle import mixes_of
from harness.files import making_private, private_umask
from harness.stores.history import folder_at
from harness.stores.server import mlflow_errors
from harness.trials.contract import TrialSpec

logger = logging.getLogger(__name__)

SERVED = Path(__file__).with_name("served.py")
ARTIFACTS = "artifacts"  # of a model: where MLflow puts the folders that it is given, each under its own name
ABOUT = [
    ColSpec(DataType.long, "sampling_rate"),
    ColSpec(DataType.string, "machine", required=False),
    ColSpec(DataType.string, "section", required=False),
]
SAMPLES = Array(DataType.double)
ONE_CHANNEL = Schema([ColSpec(SAMPLES, "waveform"), *ABOUT])
CHANNELS = Schema([ColSpec(Array(SAMPLES), "waveform"), *ABOUT])  # (channels, samples)
OUTPUT = Schema(
    [
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.double, "threshold", required=False),
        ColSpec(DataType.string, "decision", required=False),
        *(ColSpec(DataType.string, name, required=False) for name in ("machine", "section", "nearest", "error")),
    ]
)
PARAMETERS = ParamSchema([ParamSpec("scorer", DataType.string, "")])


@dataclass(frozen=True)
class KeptModel:
    """A model in MLflow.

    Attributes:
        model_id: MLflow's.
        key: of the trial.
        owner: key of the study that keeps it as its best; else what keeps it: "all" or "trial". Of the latter two
            nobody removes any.
        whole: whether all of it was uploaded.
        run_id: of the trial's run.
    """

    model_id: str
    key: str
    owner: str
    whole: bool
    run_id: str


class KeptModels:
    """The kept encoders of one experiment.

    Args:
        client: of MLflow.
        experiment: by id.
        uri: of the tracking store, for sentences.
    """

    def __init__(self, client: MlflowClient, experiment: str, uri: str) -> None:
        self.client, self.experiment, self.uri = client, experiment, uri

    def log(self, run_id: str, spec: TrialSpec, folder: Path, *, owner: str) -> str:
        """Upload a detector's folder as a model of a run, and return the model's id.

        The model is ready only once all of it is there: one that was cut stays pending, and is never read.
        """
        tags = {"asd.key": spec.key(), "asd.owner": owner, "asd.label": spec.label()}
        with mlflow_errors(self.uri):
            made = self.client.create_logged_model(
                self.experiment, name=f"trial-{spec.key()}", source_run_id=run_id, tags=tags, model_type="detector"
            )
            model_id = str(made.model_id)
            place = folder_at(str(made.artifact_location)) or Path(tempfile.gettempdir())
            with tempfile.TemporaryDirectory(prefix="asdbench-") as scratch, making_private(place):
                saved = Path(scratch) / "model"
                save_model(folder, saved, mlflow_model=Model(run_id=run_id, model_id=model_id))
                _give_rights(saved, private_umask(place))
                self.client.log_model_artifacts(model_id, str(saved))
            self.client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
        return model_id

    def of(self, keys: Iterable[str] | None = None, *, owner: str | None = None) -> list[KeptModel]:
        """Return the models of some trials, or of an owner, or all; newest last."""
        where = [] if owner is None else [f"tags.`asd.owner` = '{owner}'"]
        wanted = None if keys is None else set(keys)
        if wanted is not None and len(wanted) == 1:
            where.append(f"tags.`asd.key` = '{next(iter(wanted))}'")
        with mlflow_errors(self.uri):
            found = [_kept(each) for each in self._search(" and ".join(where))]
        return [each for each in found if each.key and (wanted is None or each.key in wanted)]

    def _search(self, where: str) -> Iterator[LoggedModel]:
        token: str | None = None
        order = [{"field_name": "creation_timestamp", "ascending": True}]
        while True:
            page = self.client.search_logged_models(
                [self.experiment], filter_string=where or None, order_by=order, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def remove(self, model: KeptModel) -> None:
        """Remove a model and its files."""
        with mlflow_errors(self.uri):
            try:
                place = str(self.client.get_logged_model(model.model_id).artifact_location)
                self.client.delete_logged_model(model.model_id)
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # another driver was quicker
                    return
                raise
            try:
                get_artifact_repository(place, tracking_uri=self.uri).delete_artifacts()
            except (MlflowException, NotImplementedError, OSError) as error:  # `mlflow gc` removes what is left
                logger.info("the files of model %s stay: %s", model.model_id, error)

    @contextmanager
    def fetched(self, model: KeptModel) -> Iterator[Path]:
        """Give the folder of a model's detector: where it lies, or a copy that is removed afterwards."""
        with mlflow_errors(self.uri):
            place = str(self.client.get_logged_model(model.model_id).artifact_location)
        here = place.startswith(("/", "file:"))
        with tempfile.TemporaryDirectory(prefix="asdbench-") as scratch:
            with mlflow_errors(self.uri):
                repository = get_artifact_repository(f"{place}/{ARTIFACTS}/{model.key}", tracking_uri=self.uri)
                folder = repository.download_artifacts("", None if here else scratch)
            yield Path(folder)


def save_model(folder: Path, to: Path, *, mlflow_model: Model | None = None) -> None:
    """Write a detector's folder as an MLflow model: code as text, weights and references as files, no pickle.

    Args:
        folder: of the detector.
        to: folder of the model, which must not exist.
        mlflow_model: says of which run the model is.
    """
    schema = ONE_CHANNEL if mixes_of(folder) <= {"first"} else CHANNELS
    with warnings.catch_warnings(record=True):  # that there is no example: a waveform would be as long as all the rest
        mlflow.pyfunc.save_model(
            path=str(to), python_model=str(SERVED), artifacts={"detector": str(folder)}, mlflow_model=mlflow_model,
            signature=ModelSignature(schema, OUTPUT, PARAMETERS), pip_requirements=[f"asdbench=={version('asdbench')}"],
        )  # fmt: skip


def _give_rights(folder: Path, umask: int) -> None:
    """Give a folder and all in it the rights of a umask, since MLflow copies rights, those of the cache among them."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _kept(model: LoggedModel) -> KeptModel:
    return KeptModel(
        model_id=str(model.model_id),
        key=str(model.tags.get("asd.key", "")),
        owner=str(model.tags.get("asd.owner", "")),
        whole=model.status == LoggedModelStatus.READY,
        run_id=str(model.source_run_id or ""),
    )
