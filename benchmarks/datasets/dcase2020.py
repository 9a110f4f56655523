"""DCASE 2020 Task 2: six machine types, several units (IDs) of each, no domains and no attributes."""

from benchmarks.contract import Archive, Dataset

MACHINES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")

DEV_IDS = dict.fromkeys(MACHINES, ("00", "02", "04", "06")) | {
    "ToyCar": ("01", "02", "03", "04"),
    "ToyConveyor": ("01", "02", "03"),
}
EVAL_IDS = dict.fromkeys(MACHINES, ("01", "03", "05")) | {
    "ToyCar": ("05", "06", "07"),
    "ToyConveyor": ("04", "05", "06"),
}

DATASET = Dataset(
    name="dcase2020",
    folder="dcase2020t2",
    machines={"dev": MACHINES, "additional": MACHINES, "eval": MACHINES},
    sections={"dev": DEV_IDS, "additional": EVAL_IDS, "eval": EVAL_IDS},
    rule="dcase2020",
    has_domains=False,
    attribute_files=False,
    archives=(
        # sums: soundata, soundata/datasets/dcase2020task2.py
        Archive(3678171, "dev_data_fan.zip", "fan", "dev", "649bdfc06263ae7a838963f43b6641e6"),
        Archive(3678171, "dev_data_pump.zip", "pump", "dev", "90e7091ef722b7238a7f1009365779cd"),
        Archive(3678171, "dev_data_slider.zip", "slider", "dev", "da24a757719f0d94d5aa2d646bbfdc86"),
        Archive(3678171, "dev_data_valve.zip", "valve", "dev", "34d2672f55bb041589ef79c10dc89934"),
        Archive(3678171, "dev_data_ToyCar.zip", "ToyCar", "dev", "4dec75ca8d9f666aa9e4c1894a740501"),
        Archive(3678171, "dev_data_ToyConveyor.zip", "ToyConveyor", "dev", "03b6aa1bfd09a39d53af0ba39f71fa91"),
        Archive(3727685, "eval_data_train_fan.zip", "fan", "additional", "567798854130c8019df8b664c095ed1e"),
        Archive(3727685, "eval_data_train_pump.zip", "pump", "additional", "4e33ae9c0db5cc88437675f5e317caee"),
        Archive(3727685, "eval_data_train_slider.zip", "slider", "additional", "f84f186f4295fc23754abcdd1b0580a7"),
        Archive(3727685, "eval_data_train_valve.zip", "valve", "additional", "057cdd560caffb8305449541afd28c6d"),
        Archive(3727685, "eval_data_train_ToyCar.zip", "ToyCar", "additional", "a5d4ccd498af70b04dd74b644b820006"),
        Archive(
            3727685, "eval_data_train_ToyConveyor.zip", "ToyConveyor", "additional", "0e808ac0b761e9fb13d5e0c65caff00d"
        ),
        Archive(3841772, "eval_data_test_fan.zip", "fan", "eval", "1eb9356a768cadfd0f2e59a5c57e578b"),
        Archive(3841772, "eval_data_test_pump.zip", "pump", "eval", "23a8f8f924be218c69df67fe07360348"),
        Archive(3841772, "eval_data_test_slider.zip", "slider", "eval", "0193c769073840332ce3aad84b1ccaa2"),
        Archive(3841772, "eval_data_test_valve.zip", "valve", "eval", "f69c551d2088691050d20cccca9d631c"),
        Archive(3841772, "eval_data_test_ToyCar.zip", "ToyCar", "eval", "bea2bdd612f616be8f2b8eb087b32c7c"),
        Archive(3841772, "eval_data_test_ToyConveyor.zip", "ToyConveyor", "eval", "ccfcc9847c7d3404d7ee9d6d9e0b2ba2"),
    ),
    summary="six machine types, scored by machine ID; no domains, no attributes",
)
