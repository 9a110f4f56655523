"""DCASE 2022 Task 2: seven machine types, three sections a part, the domain hidden at test time."""

from benchmarks.contract import Archive, Dataset

MACHINES = ("bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain")

DATASET = Dataset(
    name="dcase2022",
    folder="dcase2022t2",
    machines={"dev": MACHINES, "additional": MACHINES, "eval": MACHINES},
    sections={
        "dev": dict.fromkeys(MACHINES, ("00", "01", "02")),
        "additional": dict.fromkeys(MACHINES, ("03", "04", "05")),
        "eval": dict.fromkeys(MACHINES, ("03", "04", "05")),
    },
    rule="dcase2022",
    archives=(
        *(Archive(6355122, f"dev_{machine}.zip", machine, "dev") for machine in MACHINES),
        *(Archive(6462969, f"eval_data_{machine}_train.zip", machine, "additional") for machine in MACHINES),
        *(Archive(6586456, f"eval_data_{machine}_test.zip", machine, "eval") for machine in MACHINES),
    ),
    summary="seven machine types, three sections; domain generalisation",
)
