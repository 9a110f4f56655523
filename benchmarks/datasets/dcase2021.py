"""DCASE 2021 Task 2: seven machine types, three sections a part, the domain known at test time."""

from benchmarks.contract import Archive, Dataset

MACHINES = ("fan", "gearbox", "pump", "slider", "valve", "ToyCar", "ToyTrain")

DATASET = Dataset(
    name="dcase2021",
    folder="dcase2021t2",
    machines={"dev": MACHINES, "additional": MACHINES, "eval": MACHINES},
    sections={
        "dev": dict.fromkeys(MACHINES, ("00", "01", "02")),
        "additional": dict.fromkeys(MACHINES, ("03", "04", "05")),
        "eval": dict.fromkeys(MACHINES, ("03", "04", "05")),
    },
    rule="dcase2021",
    test_folders=("source_test", "target_test"),
    attribute_files=False,
    archives=(
        *(Archive(4562016, f"dev_data_{machine}.zip", machine, "dev") for machine in MACHINES),
        *(Archive(4660992, f"eval_data_{machine}_train.zip", machine, "additional") for machine in MACHINES),
        *(Archive(4884786, f"eval_data_{machine}_test.zip", machine, "eval") for machine in MACHINES),
    ),
    summary="seven machine types, three sections; training names carry free-text attributes",
)
