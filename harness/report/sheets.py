"""Tables of the report page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.answers.board import leaderboard_columns, row_name, row_namer
from harness.answers.columns import STAGES, compare_columns, ordered_stages, select_columns
from harness.answers.leaderboard import board_notes
from harness.answers.question import choices_said, differing
from harness.report.evidence import QUALITY, Board, Zero, labeled_rows, trained_rows
from harness.tables import NOTHING, Column, Row, count, in_percent, percent, plain

LEVELS = 9  # shades of the heat map
CHANCE = 0.5
# columns that sort in ascending order at the first click, since smaller is better
RISING = ("#", "tier", "p", "p corrected", "s/trial", "MiB", "peak MiB", "seconds")
ELSEWHERE = ("classes", "single", "s/trial", "MiB")  # columns of the leaderboard that other tables of the page have
METRIC_HEADINGS = {"auc": "AUC", "s_auc": "sAUC", "t_auc": "tAUC", "p_auc": "pAUC"}
NAMED = 3  # most sections that a note names
ALWAYS = ("#", "backbone", "M")  # columns that a table has even if all rows agree in them
FIRST = ("#", "backbone", "M", "official %")  # columns of the leaderboard that a phone shows without scrolling


@dataclass(frozen=True)
class Heading:
    """A column's heading: its text, whether numbers stand below it, whether the first click sorts upwards."""

    text: str
    right: bool
    rising: bool


@dataclass(frozen=True)
class Cell:
    """A table cell: its content and its CSS class."""

    content: str | Markup
    cls: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table; `reference` marks rows such as chance, which are not shown by colour alone."""

    cells: list[Cell]
    reference: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table of the page.

    Attributes:
        name: unique in the page.
        heading: above the table.
        title: of the caption.
        said: the rest of the caption.
        headings: of the columns.
        rows: of cells.
        named: index of the column that names a row (its row header).
        note: text between heading and table.
    """

    name: str
    heading: str
    title: str
    said: str
    headings: list[Heading]
    rows: list[Line]
    named: int
    note: str = ""


Filled = Callable[[Row], Cell]


def compared(board: Board, *, place: int, resamples: int) -> list[Sheet]:
    """Return the table of Top-M against Top-1; none where nothing could be compared."""
    rows = board.compared
    if not rows:
        return []
    return [
        _sheet(
            f"compared{place}", compare_columns(rows), rows, heading="Top-M against Top-1",
            title="Official score of M minus that of M = 1, paired by seed and machine.",
            said=f"Points of percent. 95 % intervals from {resamples:,} resamples of clips, machines and seeds; "
            "p-values corrected for the number of M tried (Holm).",
        )
    ]  # fmt: skip


def ranking(board: Board, *, place: int) -> list[Sheet]:
    """Return the leaderboard's table; classes, seconds and memory are in the tables of labels and cost."""
    places = {id(row): at for at, row in enumerate(board.rows)}
    zeros = {METRIC_HEADINGS[zero.metric]: zero for zero in board.zeros}
    columns: list[Column] = []
    for column in leaderboard_columns(board.rows, machines=False):
        if column.heading not in ELSEWHERE:
            columns.append(column)
        if (zero := zeros.get(column.heading)) is not None:
            columns.append(_mean_column(column.heading, zero, places))
    columns.sort(key=lambda column: FIRST.index(column.heading) if column.heading in FIRST else len(FIRST))
    left_out = f" {board.more_rows:,} more rows are ranked below these." if board.more_rows else ""
    return [
        _sheet(
            f"ranking{place}", columns, board.rows, heading="Leaderboard", title="Every row that is recorded.",
            said="Official score: mean over seeds ± their standard deviation; AUC: harmonic means over machines. "
            f"Rows in italics are references, not fine-tuned here.{left_out}",
            note=" ".join(filter(None, [*board_notes(board.rows), _zero_note(board.zeros)])),
            special={"backbone": lambda row: Cell(_starred(row))},
        )
    ]  # fmt: skip


def _mean_column(heading: str, zero: Zero, places: Mapping[int, int]) -> Column:
    return Column(f"{heading} mean", lambda row: in_percent(zero.means.get(places[id(row)])), right=True)


def _zero_note(zeros: Sequence[Zero]) -> str:
    """Say which sections make harmonic means 0; empty where none is."""
    if not zeros:
        return ""
    sections = list(dict.fromkeys(section for zero in zeros for section in zero.sections))
    named = "; ".join(sections[:NAMED]) + (f" and {len(sections) - NAMED} more" if len(sections) > NAMED else "")
    *first, last = (METRIC_HEADINGS[zero.metric] for zero in zeros)
    metrics = f"{', '.join(first)} and {last}" if first else last
    return (
        f"0.00 below {metrics} comes of a harmonic mean, which is 0 as soon as one of its sections is: here {named}. "
        "The column beside it has the arithmetic mean over the same sections."
    )


def selected(board: Board, *, place: int) -> list[Sheet]:
    """Return the table of `select`: M, K1 and K2 chosen on other machines than those reported."""
    rows = board.selected
    if not rows:
        return []
    return [
        _sheet(
            f"selected{place}",
            select_columns(rows),
            rows,
            heading="Chosen without looking",
            title=f"{choices_said(rows)} chosen on the other machines, reported on the one left out.",
            said="Optimism is what choosing on the test set adds to the score that it reports; 95 % intervals.",
        )
    ]


def machines(board: Board, *, place: int) -> list[Sheet]:
    """Return the heat map of machines: a table whose cells are shaded by their number."""
    rows = [row for row in board.rows if row["machines"]]
    values = [value for row in rows for value in row["machines"].values()]
    if not values:
        return []
    low, high = min(values), max(values)
    names, called = sorted({name for row in rows for name in row["machines"]}), row_namer(rows)

    def shaded(name: str) -> Filled:
        def fill(row: Row) -> Cell:
            value = row["machines"].get(name)
            if value is None:
                return Cell(NOTHING, "right")
            level = min(LEVELS - 1, int(LEVELS * (value - low) / ((high - low) or 1.0)))
            return Cell(in_percent(value), f"right h{level}" + (" below" if value < CHANCE else ""))

        return fill

    return [
        _sheet(
            f"machines{place}", [Column("row", called)], rows, heading="Machine by machine",
            title="Harmonic mean of each machine's AUCs and pAUC, %.",
            said=f"The darker or stronger the shade, the higher: from {in_percent(low)} to {in_percent(high)}. "
            "What is below chance is underlined.",
            extra=[(Heading(name, right=True, rising=False), shaded(name)) for name in names],
            named="row",
        )
    ]  # fmt: skip


def labels(board: Board, *, place: int) -> list[Sheet]:
    """Return the table of pseudo-labels: numbers of classes, and their quality if the withheld attributes are known."""
    rows = labeled_rows(board.rows)
    if not rows:
        return []
    judged = any(row.get(name) is not None for row in rows for name in QUALITY)
    columns = [
        Column("row", row_namer(rows)),
        *(count(name) for name in ("classes", "singletons")),
        count("left_out", "left out"),
        percent("confidence", "confidence %"),
        *(
            [percent("purity", "purity %"), percent("nmi", "NMI %"), percent("recall_at_m", "recall at M %")]
            if judged
            else []
        ),
        percent("official_score", "official %"),
    ]
    said = (
        "Means over seeds. Singletons are classes of one clip; left out are clips under the confidence required; "
        "the official score is that of the best row with these labels."
    )
    note = (
        "The labels were judged by attributes that were withheld from labeling."
        if judged
        else "Nobody judged these labels: the truth was not named. `--truth DIR`, or `withhold` in a protocol, does."
    )
    return [
        _sheet(
            f"labels{place}", columns, rows, heading="Label quality", title="What pseudo-labeling made.", said=said,
            named="row", note=note,
        )
    ]  # fmt: skip


def cost(board: Board, *, place: int) -> list[Sheet]:
    """Return what the rows cost: seconds by stage, memory."""
    rows = [row for row in trained_rows(board.rows) if row["seconds"] is not None]
    if not rows:
        return []
    stages = ordered_stages(stage for row in rows for stage in row["stages"])

    def seconds(stage: str) -> Column:
        return Column(STAGES.get(stage, stage), lambda row: _seconds(row["stages"].get(stage)), right=True)

    columns = [
        Column("row", row_namer(rows)),
        percent("official_score", "official %"),
        Column("seconds", lambda row: _seconds(row["seconds"]), right=True),
        count("peak_mb", "peak MiB"),
        *(seconds(stage) for stage in stages),
    ]
    return [
        _sheet(
            f"cost{place}", columns, rows, heading="Cost", title="Seconds and memory of a trial.",
            said="Means over seeds, seconds by stage last; peak MiB is the highest resident memory of any stage. Times "
            "are those of the machine that ran a trial: with several trials at once they include what the others took.",
            named="row",
        )
    ]  # fmt: skip


def runs(board: Board, *, place: int, address: Callable[[str | None], str | None]) -> Sheet:
    """Return the trials with their MLflow runs.

    Args:
        board: whose trials.
        place: of the board.
        address: function that returns the address of a run on a tracking server, or None.
    """

    def linked(row: Row) -> Cell:
        href = address(row["run_id"])
        run_id = str(row["run_id"])
        return Cell(
            Markup('<a href="{}">{}</a>').format(href, run_id) if href else Markup("<code>{}</code>").format(run_id)
        )

    apart = [name for name in differing(board.trials) if name != "scorer"]  # all scorers share a trial's run
    columns = [
        Column("trial", lambda row: row_name(row, apart)),
        Column("seed", lambda row: str(row["seed"]), right=True),
        Column("seconds", lambda row: _seconds(row["seconds"]), right=True),
        plain("recorded"),
        Column("key", lambda row: str(row["key"])),
    ]
    more = f" {board.more_trials:,} more are not listed." if board.more_trials else ""
    return _sheet(
        f"runs{place}", columns, board.trials, heading="Trials", title=f"Trials of {board.protocol} and their runs.",
        said=f"In the leaderboard's order; times are UTC.{more}", named="trial",
        extra=[(Heading("MLflow run", right=False, rising=False), linked)], extra_after="seed",
    )  # fmt: skip


def _sheet(
    name: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    heading: str,
    title: str,
    said: str,
    named: str = "backbone",
    note: str = "",
    special: Mapping[str, Filled] | None = None,
    extra: Sequence[tuple[Heading, Filled]] = (),
    extra_after: str = "",
) -> Sheet:
    special = special or {}
    columns, same = _apart(columns, rows)
    names = [column.heading for column in columns]
    at = names.index(extra_after) + 1 if extra_after else len(columns)
    fills: list[Filled] = [special.get(column.heading, _filled(column)) for column in columns]
    fills[at:at] = [fill for _, fill in extra]
    headings = [Heading(column.heading, column.right, _rises(column.heading)) for column in columns]
    headings[at:at] = [each for each, _ in extra]
    return Sheet(
        name=name,
        heading=heading,
        title=title,
        said=f"{said} {same}".rstrip(),
        headings=headings,
        rows=[
            Line([fill(row) for fill in fills], reference=row.get("kind", "trial") not in ("trial", "external"))
            for row in rows
        ],
        named=names.index(named) if named in names else 0,
        note=note,
    )


def _rises(heading: str) -> bool:
    return heading in RISING or heading in STAGES.values()


def _apart(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], str]:
    """Return the columns without those that would name every row alike, and a sentence that says these once."""
    shown, same = [], []
    for column in columns:
        # loudness alone and chance have a name of their own: their scorer would make a column for themselves
        values = {column.fill(row) for row in rows if row.get("backbone", "") is not None} - {NOTHING}
        if len(rows) > 1 and column.names and column.heading not in ALWAYS and len(values) <= 1:
            same += [f"{column.heading} {value}" for value in values]
        else:
            shown.append(column)
    return shown, f"In every row that has one: {', '.join(same)}." if same else ""


def _filled(column: Column) -> Filled:
    return lambda row: Cell(column.fill(row), "right" if column.right else "")


def _starred(row: Row) -> str:
    name = row["kind"] if row["backbone"] is None else str(row["backbone"])
    return f"{name} *" if row.get("chosen_on_test") else name


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}" if value >= 0.1 else f"{value:.3f}"
