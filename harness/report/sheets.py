"""Tables of the report page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.answers.board import UNNAMED, axis_columns, leaderboard_columns, row_name
from harness.answers.columns import compare_columns, select_columns
from harness.answers.compare import SURE, ComparedRow
from harness.report.evidence import QUALITY, Board
from harness.tables import NOTHING, Column, Row, count, in_percent, percent, plain
from harness.trials.axes import study_axes

LEVELS = 9  # shades of the heat map
CHANCE = 0.5
# columns that sort in ascending order at the first click, since smaller is better
RISING = ("#", "tier", "p", "p corrected", "s/trial", "MiB", "peak MiB", "seconds")
DRAWN = "around zero"
INTERVAL_WIDTH = 150
STAGE = " s"  # suffix of the heading of a stage's seconds


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


def verdict(row: ComparedRow) -> tuple[str, str]:
    """Return a comparison's CSS class and its verdict in a few words."""
    if row["p_corrected"] < SURE and row["ci_low"] * row["ci_high"] > 0:
        return ("better", f"M = {row['m']} is better") if row["delta"] > 0 else ("worse", f"M = {row['m']} is worse")
    return "open", "No difference shown"


def compared(board: Board, *, place: int, resamples: int) -> list[Sheet]:
    """Return the table of Top-M against Top-1; none where nothing could be compared."""
    rows = board.compared
    if not rows:
        return []
    span = max(abs(value) for row in rows for value in (row["ci_low"], row["ci_high"], row["delta"])) or 1.0

    def drawn(row: Row) -> Cell:
        return Cell(_interval(row["delta"], row["ci_low"], row["ci_high"], span=span))

    columns = [column for column in compare_columns(rows) if not _same_as_paper(column, rows)]
    return [
        _sheet(
            f"compared{place}", columns, rows, heading="Top-M against Top-1",
            title="Official score of M minus that of M = 1, paired by seed and machine.",
            said=f"Points of percent. 95 % intervals from {resamples:,} resamples of clips, machines and seeds; "
            f"p-values corrected for the number of M tried (Holm). The drawn axis reaches "
            f"{in_percent(span)} points to either side of zero.",
            extra=[(Heading(DRAWN, right=False, rising=False), drawn)], extra_after="95 % interval",
        )
    ]  # fmt: skip


def ranking(board: Board, *, place: int) -> list[Sheet]:
    """Return the leaderboard's table."""
    columns = leaderboard_columns(board.rows, machines=False)
    left_out = f" {board.more_rows:,} more rows are ranked below these." if board.more_rows else ""
    return [
        _sheet(
            f"ranking{place}", columns, board.rows, heading="Leaderboard", title="Every row that is recorded.",
            said="Official score: mean over seeds ± their standard deviation; AUC: harmonic means over machines. "
            f"Rows in italics are references, not fine-tuned here.{left_out}",
            special={"backbone": lambda row: Cell(_starred(row))},
        )
    ]  # fmt: skip


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
            title="M, K1 and K2 chosen on the other machines, reported on the one left out.",
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
    names = sorted({name for row in rows for name in row["machines"]})

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
            f"machines{place}", [Column("row", row_name)], rows, heading="Machine by machine",
            title="Harmonic mean of each machine's AUCs and pAUC, %.",
            said=f"The darker or stronger the shade, the higher: from {in_percent(low)} to {in_percent(high)}. "
            "What is below chance is underlined.",
            extra=[(Heading(name, right=True, rising=False), shaded(name)) for name in names],
            named="row",
        )
    ]  # fmt: skip


def labels(board: Board, *, place: int) -> list[Sheet]:
    """Return the table of pseudo-labels: numbers of classes, and their quality if the withheld attributes are known."""
    rows = [row for row in board.rows if row["kind"] == "trial" and row.get("classes") is not None]
    if not rows:
        return []
    judged = any(row.get(name) is not None for row in rows for name in QUALITY)
    columns = [
        Column("row", row_name),
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
    said = "Means over seeds. Singletons are classes of one clip; left out are clips under the confidence required."
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
    rows = [row for row in board.rows if row.get("seconds") is not None]
    if not rows:
        return []
    stages = list(dict.fromkeys(stage for row in rows for stage in row["stages"]))

    def seconds(stage: str) -> Column:
        return Column(f"{stage}{STAGE}", lambda row: _seconds(row["stages"].get(stage)), right=True)

    columns = [
        Column("row", row_name),
        Column("seconds", lambda row: _seconds(row["seconds"]), right=True),
        *(seconds(stage) for stage in stages),
        count("peak_mb", "peak MiB"),
        percent("official_score", "official %"),
    ]
    return [
        _sheet(
            f"cost{place}", columns, rows, heading="Cost", title="Seconds and memory of a trial.",
            said="Means over seeds; peak MiB is the highest resident memory of any stage. Times are those of the "
            "machine that ran a trial: with several trials at once they include what the others took.",
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

    columns = [
        Column("trial", row_name),
        *(column for axis in study_axes() if axis.name in UNNAMED for column in axis_columns(axis, board.trials)),
        plain("scorer"),
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
        said=said,
        headings=headings,
        rows=[
            Line([fill(row) for fill in fills], reference=row.get("kind", "trial") not in ("trial", "external"))
            for row in rows
        ],
        named=names.index(named) if named in names else 0,
        note=note,
    )


def _interval(delta: float, low: float, high: float, *, span: float) -> Markup:
    """Draw a difference with its interval around zero, small enough for a table's cell.

    Args:
        delta: the difference.
        low: of its interval.
        high: of its interval.
        span: the value at the right edge of the drawing, the same for all rows of a table.
    """
    middle = INTERVAL_WIDTH / 2
    ends = [middle + max(-1.0, min(1.0, value / span)) * (middle - 6) for value in (low, high, delta)]
    drawn = (
        '<svg viewBox="0 0 {width} 18" class="interval" aria-hidden="true">'
        '<line x1="{middle}" x2="{middle}" y1="0" y2="18" class="zero"></line>'
        '<line x1="{:.1f}" x2="{:.1f}" y1="9" y2="9" class="stroke-s0"></line>'
        '<circle cx="{:.1f}" cy="9" r="4" class="fill-s0"></circle></svg>'
    )
    return Markup(drawn.format(*ends, width=INTERVAL_WIDTH, middle=middle))  # noqa: S704 - numbers alone


def _rises(heading: str) -> bool:
    return heading in RISING or heading.endswith(STAGE)


def _same_as_paper(column: Column, rows: Sequence[Row]) -> bool:
    """Tell whether a column has the paper's value, or nothing, in every row."""
    paper = {axis.heading: axis for axis in study_axes() if not axis.number and axis.default is not None}
    axis = paper.get(column.heading)
    return axis is not None and all(row[axis.name] == axis.default for row in rows)


def _filled(column: Column) -> Filled:
    return lambda row: Cell(column.fill(row), "right" if column.right else "")


def _starred(row: Row) -> str:
    name = row["kind"] if row["backbone"] is None else str(row["backbone"])
    return f"{name} *" if row.get("chosen_on_test") else name


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.1f}" if value >= 0.1 else f"{value:.3f}"
