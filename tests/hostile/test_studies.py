"""Study files and options from anywhere: each is read, or refused in one readable sentence."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from harness.bounds import BOUNDS, bound_of, checked
from harness.errors import HarnessError
from harness.studies.plan import make_plan, planned_keys, planned_trials
from harness.studies.study_file import read_recipe, read_study
from harness.trials.choices import TrialChoices
from tests.harness.conftest import asdbench  # noqa: F401 - a fixture

READABLE = 700  # characters of the longest sentence


def study(
    *, name: str = '"x"', top: str = "", space: str = "", recipe: str = "", more: str = "", m: str = "[1]"
) -> str:
    """Write a study with something odd in one place."""
    return (
        f'name = {name}\nprotocol = "dcase2025"\n{top}\n[space]\nbackbone = ["tiny"]\nm = {m}\nk1 = [3]\nk2 = [3]\n'
        f"{space}\n[recipe]\n{recipe}\n{more}\n"
    )


OK = ""
PLAIN = study()
# what the file holds, and what is answered; "" where it is read
ENCODINGS = [
    ("a byte order mark", b"\xef\xbb\xbf" + PLAIN.encode(), OK),
    ("line ends of Windows", PLAIN.replace("\n", "\r\n").encode(), OK),
    ("UTF-16", PLAIN.encode("utf-16"), "must be in UTF-8, but is in UTF-16"),
    ("UTF-16, the other way round", b"\xfe\xff" + PLAIN.encode("utf-16-be"), "must be in UTF-8, but is in UTF-16"),
    ("UTF-16 without its mark", PLAIN.encode("utf-16-le"), "holds zero bytes"),
    ("UTF-32", PLAIN.encode("utf-32"), "must be in UTF-8, but is in UTF-32"),
    ("Latin-1", study(name='"\xe9"').encode("latin-1"), "must be in UTF-8, but line 1 has the byte 0xe9"),
    ("Latin-1 in a comment", ("\n# caf\xe9\n" + PLAIN).encode("latin-1"), "line 2 has the byte 0xe9"),
    ("Shift JIS", study(name='"\u65e5"').encode("cp932"), "must be in UTF-8, but line 1"),
    ("a zero byte", PLAIN.encode() + b"\0", "holds zero bytes"),
    ("no text at all", bytes(range(256)), "must be in UTF-8|must be TOML|zero bytes"),
    ("nothing", b"", "the key name must be there"),
    ("ten megabytes of comment", PLAIN.encode() + b"#" * 10_000_000, "must have at most 256 KB"),
    ("half a million keys", PLAIN.encode() + b"".join(b"k%d = 1\n" % i for i in range(500_000)), "at most 256 KB"),
    ("lists in lists", b"a = " + b"[" * 20_000 + b"]" * 20_000 + b"\n" + PLAIN.encode(), "nested deeper than 16"),
    ("tables in tables", b"protocol = " + b"{a=" * 5_000 + b"1" + b"}" * 5_000, "nested deeper than 16"),
    ("a key of a thousand dots", b".".join([b"a"] * 1_000) + b" = 1\n" + PLAIN.encode(), "nested deeper than 16"),
    ("a few tables too many", b"protocol = " + b"{a=" * 20 + b"1" + b"}" * 20, "nested deeper than 16"),
    ("a key twice", b'name = "a"\nname = "b"\n' + PLAIN.encode(), "must be TOML, but"),
]
TEXTS = [
    (
        "a name of 5,000 characters",
        study(name=f'"{"a" * 5000}"'),
        "at most 1,000 characters, but one at name has 5,000",
    ),
    ("a name of 300 characters", study(name=f'"{"a" * 300}"'), "name: String should have at most 100 characters"),
    ("a key of 5,000 characters", study(top=f"{'a' * 5000} = 1"), "at most 1,000 characters"),
    ("an unknown key of 900 characters", study(top=f"{'a' * 900} = 1"), "is unknown"),
    ("a backbone of 900 characters", study().replace('"tiny"', f'"{"t" * 900}"'), r"space\.backbone must be one of"),
    ("a path in the name", study(name='"../x"'), "name: String should match pattern"),
    ("a terminal's escape", study(name='"a\\u001b[31mb"'), "no control characters, but one at name has"),
    (
        "a zero in a folder",
        study(more='[labeling]\ntruth = "a\\u0000b"'),
        r"control characters, but one at labeling\.truth",
    ),
    ("a date for a seed", study(top="seeds = [1979-05-27]"), r"seeds\.0: Input should be a valid integer"),
    ("a number for a list", study(m="1"), r"space\.m: Input should be a valid list"),
    ("an empty list", study(m="[]"), r"space\.m: List should have at least 1 item"),
]
NUMBERS = [
    ("5,000 digits", study(top=f"seeds = [{'9' * 5000}]"), "must be TOML, but"),
    (
        "400 digits",
        study(top=f"seeds = [{'9' * 400}]"),
        r"seeds\.0: .*(less than or equal to 4294967295|valid integer)",
    ),
    ("seed 2^64", study(top=f"seeds = [{2**64}]"), r"seeds\.0: .*less than or equal to 4294967295"),
    ("seed 2^63", study(top=f"seeds = [{2**63}]"), r"seeds\.0: .*less than or equal to 4294967295"),
    ("seed 2^32", study(top=f"seeds = [{2**32}]"), r"seeds\.0: .*less than or equal to 4294967295"),
    ("seed 2^32 - 1", study(top=f"seeds = [{2**32 - 1}]"), OK),
    ("seed -1", study(top="seeds = [-1]"), r"seeds\.0: .*greater than or equal to 0"),
    ("half a seed", study(top="seeds = [1.5]"), r"seeds\.0: .*valid integer"),
    ("M of 100 digits", study(m=f"[{'9' * 100}]"), r"space\.m\.0: .*(less than or equal to 1000000|valid integer)"),
    ("K1 of 0", study().replace("k1 = [3]", "k1 = [0]"), r"space\.k1\.0: .*greater than or equal to 1"),
    ("a search's seed of 40 digits", study(more=f"[sampler]\nseed = {'9' * 40}"), r"sampler\.seed: "),
    ("a search's seed below 0", study(more='[sampler]\nname = "tpe"\nseed = -5'), r"sampler\.seed: .*or equal to 0"),
    ("no trials", study(more="[sampler]\ntrials = 0"), r"sampler\.trials: .*greater than or equal to 1"),
    *(
        (f"{key} = {value}", study(recipe=f"{key} = {value}"), rf"recipe\.{key}[.\w]*: Input should be")
        for key in ("learning_rate", "weight_decay", "warmup_epochs", "clip_seconds", "gradient_clip", "lora_alpha")
        for value in ("nan", "inf", "-inf", "-1", "1e300")
    ),
    ("no learning rate", study(recipe="learning_rate = 0"), r"recipe\.learning_rate: .*greater than 0"),
    ("a clip of a nanosecond", study(recipe="clip_seconds = 1e-9"), r"recipe\.clip_seconds.*or equal to 0\.1"),
    ("a clip of years", study(recipe="clip_seconds = 1e9"), r"recipe\.clip_seconds.*less than or equal to 3600"),
    ("the longest clip", study(recipe='clip_seconds = "longest"'), OK),
    *(
        (f"{key} of 20 digits", study(recipe=f"{key} = {'9' * 20}"), rf"recipe\.{key}: ")
        for key in (
            "epochs",
            "batch_size",
            "micro_batch",
            "time_mask",
            "mel_mask",
            "masks",
            "freeze_layers",
            "lora_rank",
        )
    ),
    *(
        (f"{key} = {value}", study(more=f"[resources]\n{key} = {value}"), rf"resources\.{key}[.\w]*: Input should be")
        for key in ("cpus", "minutes", "memory_gb", "gpus")
        for value in ("nan", "inf", "-1", "1e300")
    ),
    ("hardly a core", study(more="[resources]\ncpus = 1e-300"), r"resources\.cpus: .*or equal to 0\.001"),
    ("workers of 20 digits", study(more=f"[resources]\nworkers = {'9' * 20}"), r"resources\.workers: "),
    ("retries of 20 digits", study(more=f"[resources]\nretries = {'9' * 20}"), r"resources\.retries: "),
    *(
        (f"hours = {value}", study(more=f"[sampler]\nhours = {value}"), r"sampler\.hours: Input should be")
        for value in ("nan", "inf", "-1", "0", "1e300")
    ),
    ("no confidence", study(more="[labeling]\nmin_confidence = nan"), r"labeling\.min_confidence: "),
    (
        "too much confidence",
        study(more="[labeling]\nmin_confidence = 1.01"),
        r"min_confidence: .*less than or equal to 1",
    ),
    (
        "a reduction of 1",
        study(more='[pruning]\nname = "asha"\nreduction = 1'),
        r"pruning\.reduction: .*greater than 1",
    ),
]
ROWS = [
    (name, text if isinstance(text, bytes) else text.encode(), said) for name, text, said in ENCODINGS + TEXTS + NUMBERS
]


@pytest.mark.parametrize(("content", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_study_file(tmp_path: Path, content: bytes, said: str) -> None:
    """A study file is read, or one sentence names the key, the rule and what there is instead."""
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    if not said:
        assert make_plan(read_study(str(path))).file.name == "x"
        return
    with pytest.raises(HarnessError, match=said) as caught:
        read_study(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < READABLE


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to and a device under a study's name are refused, not waited for."""
    folder, pipe, device = (tmp_path / f"{name}.toml" for name in ("folder", "pipe", "device"))
    folder.mkdir()
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, kind in ((folder, "a folder"), (pipe, "a pipe"), (device, "a device")):
        with pytest.raises(HarnessError, match=f"must be a regular file, but is {kind}"):
            read_study(str(path))
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HarnessError, match="study must be one of"):
        read_study(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize("name", [*BOUNDS, "epochs", "m"])
def test_every_number_has_its_rule(name: str) -> None:
    """No number takes NaN, infinity, 10^300, a text or a truth value; what is refused is refused with the rule."""
    bound = bound_of(name)
    assert bound.holds(int(bound.high) if bound.whole else bound.high)
    for value in (float("nan"), float("inf"), float("-inf"), 1e300, 10**300, -1, "1", True, None):
        assert not bound.holds(value), value
        with pytest.raises(
            HarnessError, match=rf"^{name} must be a (whole )?number (from|above) [\d.e-]+ to [\d,.e+]+"
        ):
            checked(name, value)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("--seed 9223372036854775808", 2, "--seed.*4294967295"),
        ("--seed -1", 2, "--seed.*(0<=x|equal to 0)"),
        (f"--seed {'9' * 400}", 2, "--seed.*4294967295"),
        ("--clip-seconds 1e9", 2, "--clip-seconds.*3600"),
        ("--clip-seconds nan", None, "clip.seconds"),
        ("--clip-seconds inf", 2, "--clip-seconds.*3600"),
        ("--learning-rate inf", 2, "--learning-rate.*100"),
        ("--learning-rate nan", None, "learning.rate"),
        ("--learning-rate 0", 1, "recipe.learning_rate: Input should be greater than 0"),
        ("--learning-rate -1", 2, "--learning-rate.*(0<=x|equal to 0)"),
        ("--warmup-epochs 1e300", 2, "1000000"),
        ("--batch-size 99999999999999999999", 2, "--batch-size.*1000000"),
        ("--epochs 99999999999999999999", 2, "1000000"),
        ("--threads 0", 2, "--threads.*(1<=x|equal to 1)"),
        ("--threads 99999999", 2, "--threads.*1024"),
        ("--m 0", 2, "--(m|k1).*(1<=x|equal to 1)"),
        ("--k1 -3", 2, "--(m|k1).*(1<=x|equal to 1)"),
        ("--k2 1e3", 2, "--k2"),
        ("--min-confidence 1.5", 2, "--min-confidence.*(<=1|equal to 1)"),
        ("--min-confidence nan", None, "min.confidence"),
        ("--recipe lora_rank=-1", 1, "recipe.lora_rank: Input should be greater than or equal to 0"),
        ("--recipe clip_seconds=1e9", 1, "recipe.clip_seconds"),
        (
            "--labels papper",
            1,
            "labels must be one of gmm, machine, paper, truth, but got 'papper'.* 'paper'",
        ),
    ],
)
def test_options_of_a_trial(
    asdbench: Any,  # noqa: F811 - pytest finds it by its name
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    status: int | None,
    said: str,
) -> None:
    """The command line has a study file's bounds, and refuses before recordings are read."""
    monkeypatch.setenv("COLUMNS", "1000")
    ended, _, err = asdbench(f"trial nowhere --protocol dcase2023 --backbone tiny {options}")
    told = " ".join(err.split())
    assert ended == status or (status is None and ended in {1, 2}), told
    assert re.search(said, told), told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "changes", [{"seed": -1}, {"seed": 2**32}, {"m": 0}, {"k1": 10**9}, {"min_confidence": float("nan")}, {"seed": 1.0}]
)
def test_a_notebooks_choices(changes: dict[str, Any]) -> None:
    """Python's callers meet the same bounds."""
    (name,) = changes
    with pytest.raises(HarnessError, match=f"{name} must be a .*number from"):
        TrialChoices("dcase2023", "tiny", **changes)
    with pytest.raises(HarnessError, match=r"recipe\.epochs"):
        read_recipe({"epochs": 10**9})


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_references_come_on_top_of_a_budget(tmp_path: Path, sampler: str) -> None:
    """`trials = 2` plans two trials with pseudo-labels, beside the level and the frozen reference."""
    path = tmp_path / "study.toml"
    path.write_text(study(m="[1, 2, 3]", more=f'[sampler]\nname = "{sampler}"\ntrials = 2'))
    plan = make_plan(read_study(str(path)))
    specs = {spec.key(): spec for spec in plan.specs(train_data="a", test_data="b")}
    kinds = [specs[key].kind for key in planned_keys(plan, specs)]
    assert planned_trials(plan, specs) == 4
    assert kinds == ["level", "frozen", *(["trial", "trial"] if sampler != "tpe" else [])]
