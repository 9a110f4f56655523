"""DCASE 2025 Task 2: first-shot, attributes of some machine types withheld, supplemental recordings beside train/."""

from collections.abc import Mapping

from benchmarks.contract import Archive, Dataset, Part, one_section

MACHINES = ("bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain")
EVAL_MACHINES = (
    "AutoTrash",
    "BandSealer",
    "CoffeeGrinder",
    "HomeCamera",
    "Polisher",
    "ScrewFeeder",
    "ToyPet",
    "ToyRCCar",
)
EVAL_WITHHELD = ("AutoTrash", "Polisher", "ScrewFeeder", "ToyPet")

PARTS: Mapping[Part, tuple[str, ...]] = {"dev": MACHINES, "additional": EVAL_MACHINES, "eval": EVAL_MACHINES}

DATASET = Dataset(
    name="dcase2025",
    folder="dcase2025t2",
    machines=PARTS,
    sections=one_section(PARTS),
    rule="dcase2022",
    withheld={"dev": ("bearing", "slider", "ToyTrain"), "additional": EVAL_WITHHELD, "eval": EVAL_WITHHELD},
    archives=(
        *(Archive(15097779, f"dev_{machine}.zip", machine, "dev") for machine in MACHINES),
        *(Archive(15392814, f"eval_data_{machine}_train.zip", machine, "additional") for machine in EVAL_MACHINES),
        *(Archive(15519362, f"eval_data_{machine}_test.zip", machine, "eval") for machine in EVAL_MACHINES),
    ),
    summary="first-shot; attributes withheld for three development and four evaluation types",
)
