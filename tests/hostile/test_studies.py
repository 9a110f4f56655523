"""Study files from anywhere: each is read, or refused in one sentence that is short enough to be read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.cli.options import options_of
from harness.errors import HarnessError
from harness.studies.plan import make_plan, planned_keys, planned_trials
from harness.studies.study_file import read_study
from tests.hostile.sockets import listening

LONGEST = 1_500  # characters of a sentence
SECONDS = 10.0  # of a processor, for which a file is looked at, however large; a megabyte of TOML takes longer to parse


def toml(
    *, top: str = "", space: str = "", recipe: str = "", tables: str = "", m: str = "[1]", name: str = '"x"',
    protocol: str = 'protocol = "dcase2025"',
) -> str:  # fmt: skip
    """Write a small study with something odd in it."""
    return (
        f'name = {name}\n{protocol}\n{top}\n[space]\nbackbone = ["tiny"]\nm = {m}\n{space}\n'
        f"[recipe]\nepochs = 1\n{recipe}\n{tables}\n"
    )


NINES = "9" * 400
# what the file holds -> what the sentence says
REFUSED: dict[str, tuple[str | bytes, str]] = {
    # numbers
    "seed of 5,000 digits": (toml(top=f"seeds = [{'9' * 5000}]"), "TOML"),
    "seed of 400 digits": (toml(top=f"seeds = [{NINES}]"), "4294967295"),
    "seed 2^63": (toml(top="seeds = [9223372036854775808]"), "4294967295"),
    "seed 2^32": (toml(top="seeds = [4294967296]"), "4294967295"),
    "seed below 0": (toml(top="seeds = [-1]"), "seeds"),
    "seed of a fraction": (toml(top="seeds = [1.5]"), "seeds"),
    "seed of a date": (toml(top="seeds = [1979-05-27]"), "seeds"),
    "rate NaN": (toml(recipe="learning_rate = nan"), "learning_rate"),
    "rate infinite": (toml(recipe="learning_rate = inf"), "learning_rate"),
    "rate 0": (toml(recipe="learning_rate = 0"), "learning_rate"),
    "rate 1e30": (toml(recipe="learning_rate = 1e30"), "learning_rate"),
    "decay infinite": (toml(recipe="weight_decay = inf"), "weight_decay"),
    "decay below 0": (toml(recipe="weight_decay = -1"), "weight_decay"),
    "warm-up infinite": (toml(recipe="warmup_epochs = inf"), "warmup_epochs"),
    "length NaN": (toml(recipe="clip_seconds = nan"), "clip_seconds"),
    "length infinite": (toml(recipe="clip_seconds = inf"), "clip_seconds"),
    "length below 0": (toml(recipe="clip_seconds = -1"), "clip_seconds"),
    "length 0": (toml(recipe="clip_seconds = 0"), "clip_seconds"),
    "length 1e9": (toml(recipe="clip_seconds = 1e9"), "clip_seconds"),
    "length 1e-9": (toml(recipe="clip_seconds = 1e-9"), "clip_seconds"),
    "mask of 20 digits": (toml(recipe="time_mask = 99999999999999999999"), "time_mask"),
    "mixup below 0": (toml(recipe="mixup = -0.5"), "mixup"),
    "mixup NaN": (toml(recipe="mixup = nan"), "mixup"),
    "loss unknown": (toml(recipe='loss = "arcfase"'), "arcface"),
    "batch of 30 digits": (toml(recipe=f"batch_size = {'9' * 30}"), "batch_size"),
    "epochs of 300 digits": (toml().replace("epochs = 1", f"epochs = {'9' * 300}"), "epochs"),
    "M of 100 digits": (toml(m=f"[{'9' * 100}]"), "m"),
    "M 0": (toml(m="[0]"), "m"),
    "no M": (toml(m="[]"), "m"),
    "M true": (toml(m="[true]"), "m"),
    "K1 of 20 digits": (toml(space="k1 = [99999999999999999999]"), "k1"),
    "hours infinite": (toml(tables="[sampler]\nhours = inf"), "hours"),
    "hours 0": (toml(tables="[sampler]\nhours = 0"), "hours"),
    "hours NaN": (toml(tables="[sampler]\nhours = nan"), "hours"),
    "minutes 1e300": (toml(tables="[resources]\nminutes = 1e300"), "minutes"),
    "memory infinite": (toml(tables="[resources]\nmemory_gb = inf"), "memory_gb"),
    "cores infinite": (toml(tables="[resources]\ncpus = inf"), "cpus"),
    "cores NaN": (toml(tables="[resources]\ncpus = nan"), "cpus"),
    "cores below 0": (toml(tables="[resources]\ncpus = -1"), "cpus"),
    "cores 1e-300": (toml(tables="[resources]\ncpus = 1e-300"), "cpus"),
    "GPUs below 0": (toml(tables="[resources]\ngpus = -1"), "gpus"),
    "workers of 20 digits": (toml(tables="[resources]\nworkers = 99999999999999999999"), "workers"),
    "retries of 20 digits": (toml(tables="[resources]\nretries = 99999999999999999999"), "retries"),
    "confidence NaN": (toml(tables="[labeling]\nmin_confidence = nan"), "min_confidence"),
    "confidence 2": (toml(tables="[labeling]\nmin_confidence = 2"), "min_confidence"),
    "sampler's seed below 0": (toml(tables='[sampler]\nname = "tpe"\ntrials = 3\nseed = -5'), "seed"),
    "sampler's seed of 40 digits": (toml(tables=f'[sampler]\nname = "random"\nseed = {"9" * 40}'), "seed"),
    "scorer's k of 5,000 digits": (toml(top=f'scorers = ["knn:k={"9" * 5000}"]'), "characters"),
    "scorer's k below 0": (toml(top='scorers = ["knn:k=-1"]'), "at least 1"),
    "scorer that is code": (toml(top="scorers = [\"knn:k=__import__('os').getcwd()\"]"), "at least 1"),
    # shapes
    "deep lists": ("a = " + "[" * 20_000 + "]" * 20_000 + "\n" + toml(), "nested"),
    "deep tables": ("protocol = " + "{a=" * 5_000 + "1" + "}" * 5_000 + "\n", "nested"),
    "deep dots": (".".join("a" * 50_000) + " = 1\n" + toml(), "nested"),
    "deep dots of quotes": (" . ".join(['"a"'] * 20_000) + " = 1\n" + toml(), "nested"),
    "deep heading": ("[" + ".".join("a" * 50_000) + "]\n" + toml(), "nested"),
    "long text": (toml(top=f'summary = "{"a" * 5_000}"'), "at most 1,000 characters"),
    "long name": (toml(name=f'"{"a" * 100_000}"'), "characters"),
    "long key": (f"{'k' * 100_000} = 1\n" + toml(), "characters"),
    "10 MB of comment": (toml() + "#" + "x" * 10_000_000 + "\n", "at most"),
    "10 MB of keys": (toml() + "[backbones.z.options]\n" + "".join(f"k{i} = {i}\n" for i in range(600_000)), "at most"),
    "unknown key": (toml(recipe="epoch = 3"), "Did you mean 'epochs'?"),
    "name twice": ('name = "a"\n' + toml(), "TOML"),
    "a list for a table": ('name = "x"\nprotocol = "dcase2025"\nspace = [1]\n', "space"),
    "protocol of a date": (toml(protocol="protocol = 1979-05-27"), "protocol"),
    "protocol's parts are numbers": (
        toml(protocol='protocol = {name = "p", train = [1, 2], score = ["dcase2025/dev"]}'),
        "train",
    ),
    "share NaN": (
        toml(
            protocol='protocol = {name = "p", train = ["dcase2025/dev"], score = ["dcase2025/dev"], '
            'withhold = [{machine = "ToyCar", share = nan}]}'
        ),
        "share",
    ),
    # names
    "name with a slash": (toml(name='"a/b"'), "name"),
    "name of dots": (toml(name='".."'), "name"),
    "name with a line's end": (toml(name='"ab\\n"'), "name"),
    "name with an escape": (toml(name='"a\\u001b[31mb"'), "name"),
    "name with NUL": (toml(name='"a\\u0000"'), "name"),
    "name of markup": (toml(name='"<script>"'), "name"),
    "empty name": (toml(name='""'), "name"),
    # encodings
    "UTF-16": (toml().encode("utf-16"), "UTF-16"),
    "UTF-32": (toml().encode("utf-32"), "UTF-32"),
    "latin-1": (toml(name='"é"').encode("latin-1"), "UTF-8"),
    "latin-1 in a comment": (b"# caf\xe9\n" + toml().encode(), "UTF-8"),
    "a NUL at the end": (toml().encode() + b"\0", "zero bytes"),
    "noise": (bytes(range(128, 256)) * 8, "UTF-8"),
    "nothing": (b"", "must be there"),
    "a web page": (b"<!DOCTYPE html><html></html>", "TOML"),
}

READ: dict[str, bytes] = {
    "as it is": toml().encode(),
    "with a BOM": b"\xef\xbb\xbf" + toml().encode(),
    "with Windows's line ends": toml().replace("\n", "\r\n").encode(),
    "with the largest seed": toml(top="seeds = [4294967295]").encode(),
    "with the largest numbers": toml(recipe="learning_rate = 100\nclip_seconds = 3600").encode(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """Each is one short, printable sentence with the rule, soon."""
    content, said = REFUSED[name]
    path = tmp_path / "odd.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    began = time.process_time()
    with pytest.raises(ValueError, match=r".") as caught:
        make_plan(read_study(str(path)))
    assert time.process_time() - began < SECONDS
    sentence = str(caught.value)
    assert said in sentence
    assert len(sentence) < LONGEST
    assert sentence.isprintable()


@pytest.mark.parametrize("name", READ)
def test_read(name: str, tmp_path: Path) -> None:
    """What needs no guess is read."""
    path = tmp_path / "good.toml"
    path.write_bytes(READ[name])
    assert make_plan(read_study(str(path))).file.name == "x"


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "link to nothing", "device"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    """A thing under a study's name that is no file is said at once, and hangs nothing."""
    path = tmp_path / "odd.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        listening(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(HarnessError, match=r"regular file|must be one of"):
        read_study(str(path))


@pytest.mark.parametrize(
    "line",
    [
        "trial . --protocol dcase2025 --backbone tiny --seed 9223372036854775808",
        "trial . --protocol dcase2025 --backbone tiny --seed -1",
        "trial . --protocol dcase2025 --backbone tiny --clip-seconds 1e9",
        "trial . --protocol dcase2025 --backbone tiny --clip-seconds nan",
        "trial . --protocol dcase2025 --backbone tiny --learning-rate inf",
        "trial . --protocol dcase2025 --backbone tiny --batch-size 99999999999999999999",
        "trial . --protocol dcase2025 --backbone tiny --recipe mixup=-1",
        "label . --protocol dcase2025 --min-confidence nan",
    ],
)
def test_the_command_line_has_the_same_bounds(line: str, asdbench: object) -> None:
    """A number out of bounds is a wrong call, with the rule, before anything is read."""
    status, _, said = asdbench(line)  # type: ignore[operator]
    assert status in (1, 2)
    assert "Traceback" not in said
    assert any(rule in said for rule in ("range", "must be", "less than", "greater than", "finite", "from", "above"))


def test_options_are_words_and_numbers() -> None:
    """Values of --option are read as numbers where they are some, and never run."""
    assert options_of(["dim=8", "name=__import__('os')"]) == {"dim": 8, "name": "__import__('os')"}


def test_references_come_on_top_of_a_search(tmp_path: Path) -> None:
    """`[sampler] trials = 2` runs two searched trials beside the frozen and level rows."""
    path = tmp_path / "search.toml"
    path.write_text(toml(m="[1, 3]", tables='[sampler]\nname = "tpe"\ntrials = 2'))
    plan = make_plan(read_study(str(path)))
    specs = {spec.key(): spec for spec in plan.specs(train_data="a", test_data="b")}
    references = planned_keys(plan, specs)
    assert {specs[key].kind for key in references} == {"frozen", "level"}
    assert planned_trials(plan, specs) == len(references) + 2
