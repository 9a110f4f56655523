"""What travels into and out of the benchmarks room: datasets, protocols, metric rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["dev", "additional", "eval"]
Split: TypeAlias = Literal["train", "test"]
Domain: TypeAlias = Literal["source", "target"]
Condition: TypeAlias = Literal["normal", "anomaly"]
RuleName: TypeAlias = Literal["dcase2020", "dcase2021", "dcase2022"]
Mix: TypeAlias = Literal["first", "second", "mean", "difference", "both"]
Channels: TypeAlias = Literal["near", "far", "mean", "difference", "both"]
# what a protocol's word says of recordings with two microphones, of which the first one is near the machine (2026)
MIXES: Mapping[Channels, Mix] = {
    "near": "first", "far": "second", "mean": "mean", "difference": "difference", "both": "both",
}  # fmt: skip

PARTS: tuple[Part, ...] = ("dev", "additional", "eval")

Progress: TypeAlias = Callable[[int, int], None]
"""Told after each clip: (clips done, clips in all)."""


class BenchmarkError(ValueError):
    """Recordings, a protocol or scores that cannot be used, said in one sentence."""


@dataclass(frozen=True)
class Archive:
    """One official zip file.

    Attributes:
        record: Zenodo record id.
        name: file name inside the record.
        machine: machine type that it unpacks to.
        part: the part that it belongs to.
        md5: published sum, None where nobody published one.
    """

    record: int
    name: str
    machine: str
    part: Part
    md5: str | None = None


USUAL_SECONDS = 10.0  # of an official recording


@dataclass(frozen=True)
class Dataset:
    """One year of the DCASE Challenge Task 2, declared by a file as `DATASET`.

    Attributes:
        name: the file's name, for example "dcase2023".
        folder: the baseline's folder name, for example "dcase2023t2".
        machines: machine types of each part.
        sections: sections (machine IDs in 2020) of each machine type and part.
        rule: whose metric definition holds.
        withheld: machine types of each part whose attributes are withheld.
        has_domains: whether clips have a domain; 2020 alone has none, and writes `id` for `section` in names.
        test_folders: folders of a machine type that hold its test clips; 2021 has one a domain.
        attribute_files: whether `attributes_NN.csv` stands beside the folders of a machine type.
        channels: of the recordings.
        archives: official files.
        summary: one line for listings.
        mix: which sound of several channels counts: the first channel's, the second's, the mean of all, the first
            less the second, or both, the first and then the second as one long clip.
        seconds: how long the recordings of a machine type are, where that is not `USUAL_SECONDS`.
        listed: whether a csv of the user's lists the clips, instead of folders and names; such a dataset has no
            machine types, sections or archives of its own, and `folder` is where its csv stands below a root.
    """

    name: str
    folder: str
    machines: Mapping[Part, tuple[str, ...]]
    sections: Mapping[Part, Mapping[str, tuple[str, ...]]]
    rule: RuleName
    withheld: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)
    has_domains: bool = True
    test_folders: tuple[str, ...] = ("test",)
    attribute_files: bool = True
    channels: int = 1
    archives: tuple[Archive, ...] = ()
    summary: str = ""
    mix: Mix = "first"
    listed: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


def one_section(machines: Mapping[Part, tuple[str, ...]]) -> dict[Part, dict[str, tuple[str, ...]]]:
    """Return the sections of a year from 2023 on: every machine type has one, "00"."""
    return {part: dict.fromkeys(names, ("00",)) for part, names in machines.items()}


ProblemKind: TypeAlias = Literal[
    "missing", "extra", "misnamed", "attributes", "doubled", "unreadable", "empty", "truncated", "not finite",
    "rate", "length", "channels", "encoding", "duplicated", "loud", "clipped", "longer", "repeated key",
    "telling name",
]  # fmt: skip

Effect: TypeAlias = Literal["stops", "changes numbers", "harmless"]  # from the worst
# of files that are used, or were never there: converted as they are read, or passed over; names that harm those alone
# who read attributes of test clips, which nothing here does
HARMLESS: tuple[ProblemKind, ...] = (
    "rate", "channels", "encoding", "length", "extra", "repeated key", "telling name",
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One thing about the recordings on disk that is not as it should be.

    Attributes:
        kind: what sort of thing.
        path: of the file or folder; what is no UTF-8 in it is written as an escape.
        sentence: what is wrong, the rule, and the way out.
        bad: whether the file cannot be used as it is; the others are used, or were never there.
        dataset: the year, or "" where it belongs to none.
        part: of the year, where it belongs to one.
        value: what tells it from others of its kind that want mending by themselves, such as "domain sorce" or the rule
            that a name breaks; "" where one sentence stands for all.
    """

    kind: ProblemKind
    path: str
    sentence: str
    bad: bool = True
    dataset: str = ""
    part: Part | None = None
    value: str = ""

    @property
    def effect(self) -> Effect:
        """Return what it means for a study: "stops" is refused unless bad files are left out on purpose."""
        if self.bad:
            return "stops"
        return "harmless" if self.kind in HARMLESS else "changes numbers"


@dataclass(frozen=True)
class DatasetPart:
    """A part of a dataset, written "dcase2023/dev"."""

    dataset: str
    part: Part

    def __str__(self) -> str:
        return f"{self.dataset}/{self.part}"


@dataclass(frozen=True)
class Withheld:
    """Attributes of training clips that a protocol hides on purpose, so that labeling can be judged on labeled data.

    Attributes:
        machine: machine type whose clips are meant; "" means all.
        domain: domain whose clips are meant; left out, both.
        share: of these clips, over 0 to 1; which ones hangs on their ids and the seed alone.
        seed: another one hides other clips.
    """

    machine: str = ""
    domain: Domain | None = None
    share: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Protocol:
    """Which recordings train, which are scored, and what each machine type's case is.

    Attributes:
        name: how studies name it.
        train: parts whose training clips are used.
        score: parts whose test clips are scored, each by its own year's rule.
        machines: machine types to keep; empty keeps all.
        cases: the labeling case fixed for a machine type; the others are routed by what their clips show.
        strategies: the strategy fixed for a machine type instead of its case's own, such as the machine type alone.
        summary: one line for listings.
        withhold: attributes of training clips that are hidden, and kept as the truth that labels are judged by.
        channels: which microphone is heard: near, far, their mean, their difference, or both, one after the other;
            left out, each dataset's own choice, which is the first channel of all of them, recordings of the user's
            own included.
    """

    name: str
    train: tuple[DatasetPart, ...]
    score: tuple[DatasetPart, ...]
    machines: tuple[str, ...] = ()
    cases: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    strategies: Mapping[str, str] = field(default_factory=dict)
    withhold: tuple[Withheld, ...] = ()
    channels: Channels | None = None


@dataclass(frozen=True)
class MachineMetrics:
    """Metrics of one machine type's section, as fractions; None where undefined.

    Attributes:
        dataset: year.
        machine: machine type.
        section: section, or machine ID in 2020.
        auc: over all clips; the year's own metric only in 2020.
        s_auc: source AUC.
        t_auc: target AUC.
        p_auc: partial AUC over false positive rates up to 0.1, McClish-standardised.
        p_auc_source: partial AUC of the source domain; 2021 alone has one a domain.
        p_auc_target: partial AUC of the target domain; 2021 alone has one a domain.
        undefined: why a metric is None, one sentence each.
    """

    dataset: str
    machine: str
    section: str
    auc: float | None
    s_auc: float | None
    t_auc: float | None
    p_auc: float | None
    p_auc_source: float | None = None
    p_auc_target: float | None = None
    undefined: tuple[str, ...] = ()

    @property
    def mean_auc(self) -> float | None:
        """Return the paper's average AUC, of source and target; None unless both are defined."""
        if self.s_auc is None or self.t_auc is None:
            return None
        return (self.s_auc + self.t_auc) / 2
