"""Own recordings: a folder of wavs and a csv that lists them, scored by the current year's rule."""

from benchmarks.contract import Dataset

DATASET = Dataset(
    name="own",
    folder="own",
    machines={},
    sections={},
    rule="dcase2022",  # the current year's
    attribute_files=False,
    summary="a folder of wavs and a csv that lists them",
    listed=True,
)
