"""DCASE 2026 Task 2: two microphones, emulated machines beside real ones, attributes of six machine types withheld."""

from collections.abc import Mapping

from benchmarks.contract import Archive, Dataset, Part, one_section

MACHINES = ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu")
EVAL_MACHINES = ("BlowerDustCollector", "Sander", "SewingMachine", "ToothBrush", "ToyDrone")
EVAL_WITHHELD = ("SewingMachine", "ToothBrush")
REVISED = ("ToyCar",)  # dev_ToyCar.zip was replaced by a second revision
# sums as several public download scripts have them; the challenge itself publishes none
TRAIN_SUMS = {
    "BlowerDustCollector": "e79342948772cf51e50ff601cd9621f3",
    "Sander": "6cbcfbc65a09c4f3d00b9a55c50502ec",
    "SewingMachine": "74d08cacba3da88753badd69d19e577b",
    "ToothBrush": "6fa5f81796b5d37b3ed24bb8eff2ea25",
    "ToyDrone": "af3e4040ef7c67d7ee920608d0c38d82",
}
TEST_SUMS = {
    "BlowerDustCollector": "ec90d56f189e84e6430fb2878c59cb84",
    "Sander": "05f81c9a80e91c7b3cea15f8e8559b44",
    "SewingMachine": "f0a1a96b48006c301e8cec25e9214046",
    "ToothBrush": "987395506fbb48c570d5d26babcab05e",
    "ToyDrone": "b36102371c188b630d201d443a00bab2",
}

PARTS: Mapping[Part, tuple[str, ...]] = {"dev": MACHINES, "additional": EVAL_MACHINES, "eval": EVAL_MACHINES}

DATASET = Dataset(
    name="dcase2026",
    folder="dcase2026t2",
    machines=PARTS,
    sections=one_section(PARTS),
    rule="dcase2022",
    withheld={
        "dev": ("ToyCar", "bearingEmu", "sliderEmu", "valveEmu"),
        "additional": EVAL_WITHHELD,
        "eval": EVAL_WITHHELD,
    },
    channels=2,  # the near microphone first, the far one second
    seconds={"ToyCar": 11.0, "ToyCarEmu": 12.0},  # of the evaluation types one has 6 s and one 16 s: unknown which
    archives=(
        *(
            Archive(19336329, f"dev_{machine}{'_r2' * (machine in REVISED)}.zip", machine, "dev")
            for machine in MACHINES
        ),
        *(
            Archive(20151556, f"eval_data_{machine}_train.zip", machine, "additional", TRAIN_SUMS[machine])
            for machine in EVAL_MACHINES
        ),
        *(
            Archive(20437238, f"eval_data_{machine}_test.zip", machine, "eval", TEST_SUMS[machine])
            for machine in EVAL_MACHINES
        ),
    ),
    summary="first-shot; near and far microphone; attributes withheld for four development and two evaluation types",
)
