"""A study with one more axis than there are: plans it, records it, reads it back; run by test_axes.py."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

from harness.trials import axes

# what somebody who adds an axis writes, before anything has read the table
axes.AXES = (*axes.AXES, axes.Axis("lora_rank", "LoRA rank", default=0, of="recipe", number=True))

from backbones.training.recipe import FinetuneRecipe  # noqa: E402 - behind the new axis, as the harness reads it
from harness.errors import HarnessError  # noqa: E402
from harness.stores.records import read_record, write_result  # noqa: E402
from harness.stores.results import Results  # noqa: E402
from harness.stores.run_names import spec_params  # noqa: E402
from harness.studies.journal import Journal  # noqa: E402
from harness.studies.plan import make_plan  # noqa: E402
from harness.studies.status import study_status  # noqa: E402
from harness.studies.study_file import checked_study, read_study  # noqa: E402
from tests.harness.made_up import make_result  # noqa: E402

DATA = {"train_data": "aaaa", "test_data": "bbbb"}
folder = Path(sys.argv[1])
table = {
    "name": "ranks",
    "protocol": "dcase2023",
    "space": {"backbone": ["tiny"], "m": [1, 3], "lora_rank": [0, 8]},
    "sampler": {"name": "tpe"},
}
found: dict[str, object] = {}
try:
    checked_study({**table, "space": {**table["space"], "lora_rank": [-1]}}, "ranks")
except HarnessError as error:
    found["refused"] = str(error)
plan = make_plan(checked_study(table, "ranks"))
specs = {spec.key(): spec for spec in plan.specs(**DATA)}
cells = [spec for spec in specs.values() if spec.kind == "trial"]
found["order"] = [(spec.recipe.lora_rank, spec.m) for spec in cells]
found["kinds"] = [spec.kind for spec in specs.values()]
found["labels"] = [spec.label() for spec in cells]
found["params"] = spec_params(cells[-1])["recipe.lora_rank"]
without = make_plan(checked_study({**table, "space": {"backbone": ["tiny"], "m": [1, 3]}}, "ranks"))
found["keys"] = [make_plan(read_study("demo")).key(**DATA), without.key(**DATA), plan.key(**DATA)]
found["same cells"] = sorted(set(specs) & {spec.key() for spec in without.specs(**DATA)}) == sorted(
    spec.key() for spec in without.specs(**DATA)
)

journal = Journal(f"sqlite:///{folder / 'optuna.db'}", "ranks", plan=plan, specs=specs)
proposed = [journal.ask(owner="me")[1] for _ in range(6)]
found["proposed"] = all(len(each) == 1 and each[0].key() in specs for each in proposed)
found["parameters"] = sorted(journal.study.trials[0].params)

database = folder / "older.db"  # as an earlier version left it: without the column, a recipe recorded in its detail
uri = f"sqlite:///{database}"
older = Results(uri)
eight, zero = (replace(cells[0], recipe=FinetuneRecipe(epochs=2, lora_rank=rank)) for rank in (8, 0))
for spec in (eight, zero):
    older.put_result(make_result(spec), run_id="r", code="")
older.close()
with sqlite3.connect(database) as connection:
    connection.execute("ALTER TABLE asd_trials DROP COLUMN lora_rank")
results = Results(uri)
results.put_result(make_result(cells[-1]), run_id="r", code="")
results.put_study("k" * 16, name="ranks", protocol="dcase2023", run_id="r", planned=3, content="{}")
results.link("k" * 16, [eight.key(), zero.key(), cells[-1].key()])
found["rows"] = [row["lora_rank"] for row in study_status(results, "ranks", trials=True)["trials"]]
found["column"] = sorted(results.trial_scores([cells[-1].key()])["lora_rank"].tolist())
results.close()

write_result(folder, make_result(cells[-1]))
found["read back"] = axes.axis_values(read_record(folder, key=cells[-1].key()).spec) == axes.axis_values(cells[-1])
sys.stdout.write(json.dumps(found))
