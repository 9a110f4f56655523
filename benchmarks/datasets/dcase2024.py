"""DCASE 2024 Task 2: first-shot again, with the attributes of some machine types withheld."""

from collections.abc import Mapping

from benchmarks.contract import Archive, Dataset, Part, one_section

MACHINES = ("bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain")
EVAL_MACHINES = (
    "3DPrinter",
    "AirCompressor",
    "BrushlessMotor",
    "HairDryer",
    "HoveringDrone",
    "RoboticArm",
    "Scanner",
    "ToothBrush",
    "ToyCircuit",
)
EVAL_WITHHELD = ("AirCompressor", "BrushlessMotor", "HoveringDrone", "ToothBrush")
REVISED = ("3DPrinter", "RoboticArm")  # record 11183284 was withdrawn; these two archives have a second revision

PARTS: Mapping[Part, tuple[str, ...]] = {"dev": MACHINES, "additional": EVAL_MACHINES, "eval": EVAL_MACHINES}

DATASET = Dataset(
    name="dcase2024",
    folder="dcase2024t2",
    machines=PARTS,
    sections=one_section(PARTS),
    rule="dcase2022",
    withheld={"dev": ("gearbox", "slider", "ToyTrain"), "additional": EVAL_WITHHELD, "eval": EVAL_WITHHELD},
    archives=(
        *(Archive(10902294, f"dev_{machine}.zip", machine, "dev") for machine in MACHINES),
        *(
            Archive(11259435, f"eval_data_{machine}_train{'_r2' * (machine in REVISED)}.zip", machine, "additional")
            for machine in EVAL_MACHINES
        ),
        *(Archive(11363076, f"eval_data_{machine}_test.zip", machine, "eval") for machine in EVAL_MACHINES),
    ),
    summary="first-shot; attributes withheld for three development and four evaluation types",
)
