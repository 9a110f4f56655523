"""Study files are read whole or refused in one sentence, and plan every cell once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.studies.plan import make_plan
from harness.studies.shipped import study_names
from harness.studies.study_file import StudyFile, read_study
from labeling.contract import LabelingError

DATA = {"train_data": "aaaa", "test_data": "bbbb"}


def study(**changes: object) -> StudyFile:
    """A small study file."""
    table: dict[str, object] = {
        "name": "toy",
        "protocol": "dcase2023",
        "seeds": [0, 1],
        "space": {"backbone": ["tiny"], "m": [1, 3]},
    }
    return StudyFile.model_validate({**table, **changes})


def written(folder: Path, text: str) -> str:
    """Write a study file and return its path."""
    path = folder / "study.toml"
    path.write_text(text)
    return str(path)


GOOD = 'name = "toy"\nprotocol = "dcase2023"\n[space]\nbackbone = ["tiny"]\nm = [1, 3]\n'


def test_shipped_studies_read() -> None:
    """The studies that ship are demo, paper and real-mini, and each of them reads."""
    assert {"demo", "paper", "real-mini"} <= set(study_names())
    for name in study_names():
        assert read_study(name).name == name


def test_paper_study_is_the_papers() -> None:
    """The paper study holds the paper's grid and recipe (sections 3.2 and 4.2)."""
    file = read_study("paper")
    recipe = file.recipe.recipe()
    assert (len(file.space.backbone), file.space.m) == (2, [1, 3, 5, 7, 10, 13, 15])
    assert (file.space.k1, file.space.k2, file.labeling.min_confidence) == ([15], [15], 0.9)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (40, 512, 2e-4)
    assert (recipe.weight_decay, recipe.warmup_epochs) == (1e-2, 4)


def test_labels_of_a_second_round_have_as_many_candidates_as_clusters() -> None:
    """With K1 = 15 and K2 = 5 the paper's labels have M = 10 and iterated ones end at 5; alone, M = 10 is refused."""
    space = {"backbone": ["tiny"], "m": [1, 5, 10], "k1": [15], "k2": [5], "labels": ["paper", "iterated"]}
    specs = [spec for spec in make_plan(study(space=space)).specs(**DATA) if spec.kind == "trial"]
    found = {labels: sorted({spec.m for spec in specs if spec.labels == labels}) for labels in ("paper", "iterated")}
    assert found == {"paper": [1, 5, 10], "iterated": [1, 5]}
    with pytest.raises(LabelingError, match="m must be between 1 and 5"):
        make_plan(study(space={**space, "labels": ["iterated"]}))


def test_cells_and_references() -> None:
    """A grid is one level trial, a frozen one a backbone and seed, and every cell once."""
    specs = make_plan(study()).specs(**DATA)
    assert [spec.kind for spec in specs] == ["level", "frozen", "frozen", "trial", "trial", "trial", "trial"]
    assert len({spec.key() for spec in specs}) == len(specs)
    assert {(spec.m, spec.seed) for spec in specs if spec.kind == "trial"} == {(1, 0), (1, 1), (3, 0), (3, 1)}


def test_key_ignores_what_changes_no_number() -> None:
    """Workers, summary and scorers leave a study's identity; seeds and M do not."""
    key = make_plan(study()).key(**DATA)
    assert make_plan(study(resources={"workers": 5}, summary="x", scorers=["knn", "level"])).key(**DATA) == key
    assert make_plan(study(seeds=[0])).key(**DATA) != key
    assert make_plan(study()).key(train_data="cccc", test_data="bbbb") != key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("tiny", "tyni"), r"space\.backbone must be one of .*got 'tyni'\. Did you mean 'tiny'\?"),
        (GOOD.replace("dcase2023", "dcase2032"), r"protocol must be one of .*got dcase2032\.? ?[Dd]id you mean"),
        (GOOD.replace("[1, 3]", "[1, 20]"), r"m must be between 1 and 15, the candidates per clip, but got 20\."),
        (GOOD.replace("[1, 3]", "[0]"), r"space\.m\.0.*greater than or equal to 1, but got 0"),
        (GOOD + "sede = 1\n", r"space\.sede is unknown.*Did you mean 'seed'|space\.sede is unknown"),
        ("sedes = [1]\n" + GOOD, r"sedes is unknown.*Did you mean 'seeds'\?"),
        (GOOD.replace('name = "toy"\n', ""), r"name must be there"),
        (GOOD.replace("name =", "name"), r"must be TOML"),
        ('scorers = ["knm"]\n' + GOOD, r"scorer must be one of .*Did you mean 'knn'\?"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """A mistake is answered with the key, the rule and the nearest right name."""
    with pytest.raises(ValueError, match=said) as caught:
        make_plan(read_study(written(tmp_path, text)))
    assert "\n" not in str(caught.value)


def test_unknown_study_names_the_nearest() -> None:
    """A study that is neither shipped nor a file is answered with the nearest name."""
    with pytest.raises(HarnessError, match="Did you mean 'demo'"):
        read_study("dmeo")


def test_missing_weights_stop_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A study whose checkpoint is not there is refused; it never runs on random weights instead."""
    monkeypatch.setenv("ASDBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="BEATs_iter3_plus_AS2M"):
        make_plan(read_study("paper"))
