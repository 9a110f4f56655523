"""DCASE 2023 Task 2: seven machine types to develop on, seven new ones to evaluate, one section each."""

from collections.abc import Mapping

from benchmarks.contract import Archive, Dataset, Part, one_section

MACHINES = ("bearing", "fan", "gearbox", "slider", "valve", "ToyCar", "ToyTrain")
EVAL_MACHINES = ("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum")

PARTS: Mapping[Part, tuple[str, ...]] = {"dev": MACHINES, "additional": EVAL_MACHINES, "eval": EVAL_MACHINES}

DATASET = Dataset(
    name="dcase2023",
    folder="dcase2023t2",
    machines=PARTS,
    sections=one_section(PARTS),
    rule="dcase2022",
    archives=(
        # sums: soundata, soundata/datasets/dcase23_task2.py
        Archive(7882613, "dev_bearing.zip", "bearing", "dev", "8a813bc8d8f156b5395bfccdfac7673c"),
        Archive(7882613, "dev_fan.zip", "fan", "dev", "9348591e96fb0ad499a1e33b082562fc"),
        Archive(7882613, "dev_gearbox.zip", "gearbox", "dev", "b6e55f6a31faa0fc8569ec0afdd53ccf"),
        Archive(7882613, "dev_slider.zip", "slider", "dev", "b3f8dee36b4718c36d659a4fd1c4afe0"),
        Archive(7882613, "dev_valve.zip", "valve", "dev", "b2051a2022eadb53cd97581120811cae"),
        Archive(7882613, "dev_ToyCar.zip", "ToyCar", "dev", "4e3bf15f4101ed4ed4f1fecde2e2b2a3"),
        Archive(7882613, "dev_ToyTrain.zip", "ToyTrain", "dev", "6b02a6c65eebb3b8b1ae59a6b25bb897"),
        Archive(7830345, "eval_data_bandsaw_train.zip", "bandsaw", "additional", "9274dfe63de028743823f1123f8b4b47"),
        Archive(7830345, "eval_data_grinder_train.zip", "grinder", "additional", "17569c1f9df23621a0dbabc430684a35"),
        Archive(7830345, "eval_data_shaker_train.zip", "shaker", "additional", "35f821b5645b731fb5a1750e33b95fc3"),
        Archive(7830345, "eval_data_ToyDrone_train.zip", "ToyDrone", "additional", "7fea367d1384a1521ae24f72203238de"),
        Archive(
            7830345, "eval_data_ToyNscale_train.zip", "ToyNscale", "additional", "9332822f3e47afd984c01f2ecb5ca3af"
        ),
        Archive(7830345, "eval_data_ToyTank_train.zip", "ToyTank", "additional", "b1fd3ab7de7561290df2d477de1c9d33"),
        Archive(7830345, "eval_data_Vacuum_train.zip", "Vacuum", "additional", "1c8de33d9a8c7850a1f7aaddb97d87be"),
        Archive(7860847, "eval_data_bandsaw_test.zip", "bandsaw", "eval", "2a8e8f39f6584ab366a8f4da52d4d7a6"),
        Archive(7860847, "eval_data_grinder_test.zip", "grinder", "eval", "631b3e1608b6077772829a6e68c82c77"),
        Archive(7860847, "eval_data_shaker_test.zip", "shaker", "eval", "ba98c98caa96051ec80e24e44b8fca56"),
        Archive(7860847, "eval_data_ToyDrone_test.zip", "ToyDrone", "eval", "fdae7b8d1f4cadb2bea88bc93e2367db"),
        Archive(7860847, "eval_data_ToyNscale_test.zip", "ToyNscale", "eval", "62f5f5043d8fb3a305b1c2e1025872de"),
        Archive(7860847, "eval_data_ToyTank_test.zip", "ToyTank", "eval", "f5639bf58c47169c622751f19c6fc321"),
        Archive(7860847, "eval_data_Vacuum_test.zip", "Vacuum", "eval", "a32524fd8c45b574a560685b38acc4e1"),
    ),
    summary="first-shot: new machine types at evaluation, one section each",
)
