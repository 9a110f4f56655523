"""The report page answers in words, escapes what it shows, asks no server for anything and replaces its file whole."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness import verbs
from harness.answers.board import row_namer
from harness.answers.leaderboard import board_notes
from harness.answers.question import Question, called, choices_said, differing, shown_choice
from harness.errors import HarnessError
from harness.places import Places
from harness.report import drawings
from harness.report.evidence import Evidence, curve_families, gather, labeled_rows
from harness.report.figures import SHORT
from harness.report.forest import forest
from harness.report.mattered import mattered
from harness.report.page import _recipe, _with_code, render, report
from harness.report.sheets import cost, ranking, selected
from harness.report.verdict import verdict
from harness.stores.recorder import Recorder
from harness.tables import CONTROLS, printable
from tests.harness.made_up import KEY, clips_of, make_result, make_spec, record, record_study

VILLAIN = "<script>alert(1)</script>\"'&<svg onload=alert(2)>"
WRITTEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Reads a page: elements in order, text by element, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.broken: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.opened or self.opened.pop() != tag:
            self.broken.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.opened or self.opened[-1] not in ("script", "style"):
            self.text += data

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None]]]:
        return [(tag, attributes) for tag, attributes in self.seen if tag in tags]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> tuple[Evidence, str]:
    """A study of two backbones, and its page."""
    import shutil

    from harness.stores.results import Results
    from harness.stores.tracker import Tracker

    path = tmp_path_factory.mktemp("page") / "mlflow.db"
    shutil.copy(empty_mlflow, path)
    results = Results(f"sqlite:///{path}")
    record_study(Recorder(Tracker(f"sqlite:///{path}", code="a" * 40), results))
    evidence = gather(results, Question(study="made-up", resamples=100))
    results.close()
    return evidence, render(evidence, tracking=f"sqlite:///{path}", written=WRITTEN)


def test_page_answers_first(made: tuple[Evidence, str]) -> None:
    """The comparison's sentences stand before any figure, and every listed row and run id is on the page."""
    evidence, page = made
    board = evidence.boards[0]
    outline = Outline(page)
    beats = next(row["sentence"] for row in board.compared if row["m"] == 3 and row["backbone"] == "beats-small")
    assert " beats " in beats
    assert 0 < page.index(html.escape(beats)) < page.index("<figure")
    assert all(row["sentence"] in outline.text for row in board.compared)
    assert all(row["sentence"] in outline.text for row in board.selected)
    assert all(trial["run_id"] in outline.text for trial in board.trials)
    assert len(board.trials) == 17
    assert "git checkout " + "a" * 40 in outline.text
    assert "asdbench study run made-up.toml --data ROOT" in outline.text


def test_the_question_is_answered_in_the_first_sentence(made: tuple[Evidence, str]) -> None:
    """Before all else stands the verdict with its number and colour: how many comparisons Top-M won and lost."""
    board = made[0].boards[0]
    outline = Outline(made[1])
    better = [row for row in board.compared if row["differs"] and row["delta"] > 0]
    largest = max(better, key=lambda row: row["delta"])
    points = f"by up to {100 * largest['delta']:.2f} points (beats-small, M = 3; 95 % CI +"
    assert f"Top-M beats Top-1 in {len(better)} of 4 comparisons, {points}" in outline.text
    assert ("div", {"class": "verdict better"}) in outline.seen
    open_ones = [row for row in board.compared if not row["differs"]]
    none = verdict(open_ones[:2])
    assert (none.cls, none.word) == ("open", "No difference shown")
    assert none.sentence.startswith("None of 2 comparisons of Top-M with Top-1 shows a difference; the largest is ")
    assert "The one comparison of Top-M with Top-1 shows no difference; it is " in verdict(open_ones[:1]).sentence
    worse = [{**better[0], "delta": -0.1, "ci_low": -0.2, "ci_high": -0.05, "m": m} for m in (3, 5, 7, 9)]
    lost = verdict([*worse, open_ones[0]])
    assert (lost.cls, lost.word) == ("worse", "No")
    assert lost.sentence.startswith("Top-M loses to Top-1 in 4 of 5 comparisons, by up to 10.00 points (beats-small, M")
    assert lost.sentence.endswith("; the other shows no difference.")
    assert (verdict([*better, *worse]).cls, verdict([], why_not="because").sentence) == ("mixed", "because")


def test_every_comparison_is_a_line_of_the_forest(made: tuple[Evidence, str]) -> None:
    """The forest has a line a comparison: its name, estimate, interval and p, and a mark that is not colour alone."""
    board = made[0].boards[0]
    found = forest(board.compared)
    assert found is not None
    assert [(line.backbone, line.rest) for line in found.lines] == [
        (row["backbone"], f"M = {row['m']}") for row in board.compared
    ]
    for line, row in zip(found.lines, board.compared, strict=True):
        assert line.points == f"{100 * row['delta']:+.2f}"
        assert ("full" in line.drawn, line.cls == "open") == (row["differs"], not row["differs"])
    wide = [{**row, "ci_low": -9.0} for row in board.compared[:1]]
    narrow = forest([*board.compared, *wide])
    assert narrow is not None
    assert narrow.lines[-1].drawn.count('class="span"') == 3  # its interval goes on beyond the axis: an arrow


def rows_of_two_scorers() -> list[dict[str, Any]]:
    """Rows that differ in fusion and scorer, and one without a backbone."""
    same = {"kind": "trial", "backbone": "b", "m": 3, "k1": 15, "k2": 15, "labels": "paper", "train": "all",
            "loss": "cross_entropy", "recipe": "r", "protocol": "p", "dataset": "d"}  # fmt: skip
    level = {**dict.fromkeys(same), "kind": "level", "fusion": None, "scorer": "level"}
    return [{**same, "fusion": fusion, "scorer": scorer} for fusion in ("composite", "soft")
            for scorer in ("knn", "gmm")] + [level]  # fmt: skip


def test_names_say_what_differs_and_no_more() -> None:
    """A row is named by the axes, scorer and year in which rows differ; a recipe only where nothing else does."""
    rows = rows_of_two_scorers()
    assert differing(rows) == ["fusion", "scorer"]
    assert [row_namer(rows)(row) for row in rows] == [
        "b, M = 3, composite, knn", "b, M = 3, composite, gmm", "b, M = 3, soft, knn", "b, M = 3, soft, gmm", "level"
    ]  # fmt: skip
    assert called(rows[3], differing(rows)) == "b (soft, gmm)"
    assert differing(rows[:1]) == []
    twice = [rows[0], {**rows[0], "recipe": "other"}]
    assert (differing(twice), called(twice[1], differing(twice))) == (["recipe"], "b (recipe other)")
    axes = [{**rows[0], "loss": "arcface", "recipe": "other"}, rows[0]]  # a recipe's digest covers the loss
    assert (differing(axes), called(axes[0], differing(axes))) == (["loss"], "b (loss arcface)")


def test_what_mattered_has_a_section(made: tuple[Evidence, str]) -> None:
    """Every choice has a row with a bar, the sentence names the largest, and PED-ANOVA stands beside the shares."""
    evidence, page = made
    (board,) = evidence.boards
    found = mattered(evidence.mattered, board, place=1)
    assert found is not None
    assert {row["choice"] for row in evidence.mattered} == {"m", "backbone", "seed"}
    assert len(found.sheet.rows) == 3
    assert sum(row["importance"] or 0 for row in evidence.mattered) == pytest.approx(1.0)
    assert re.match(r"Backbone explains \d+ % of the variance between scores; no more than chance: .*seed", found.lead)
    assert found.lead in Outline(page).text
    assert page.index("What mattered") < page.index("Leaderboard</h3>")
    assert 'width="' in str(found.sheet.rows[0].cells) and "<circle" not in str(found.sheet.rows[0].cells)
    assert mattered([], board, place=1) is None
    assert mattered(evidence.mattered, replace(board, data="other"), place=1) is None
    nothing = mattered([{**row, "p_value": 0.5, "ci_low": None} for row in evidence.mattered], board, place=1)
    assert nothing is not None and nothing.lead.startswith("No choice explains more")
    many = mattered([{**row, "importance": None} for row in evidence.mattered], board, place=1)
    assert many is not None and many.sheet.said.endswith("asdbench importance has it.")
    assert "of the scores from the rest" in found.sheet.said


def test_commands_in_sentences_are_code(made: tuple[Evidence, str]) -> None:
    """What a note puts between backticks is set as code, and a name between them is still escaped."""
    assert "<code>asdbench select</code>" in made[1]
    assert "`" not in Outline(made[1]).text
    assert _with_code("<b> `<i>` c") == "&lt;b&gt; <code>&lt;i&gt;</code> c"


def test_runs_of_a_local_database_are_linked_to_its_pages(made: tuple[Evidence, str]) -> None:
    """Every run leads to where the command beside it serves MLflow's pages."""
    evidence, page = made
    links = {attributes["href"] for _, attributes in Outline(page).all("a")}
    start = f"http://127.0.0.1:5000/#/experiments/{evidence.experiment}/runs"
    assert {f"{start}/{trial['run_id']}" for trial in evidence.boards[0].trials} <= links
    assert "mlflow ui --backend-store-uri sqlite:///" in Outline(page).text


def test_page_is_well_formed_and_accessible(made: tuple[Evidence, str]) -> None:
    """Elements close, headings skip no level, ids are unique, tables have captions and scopes, charts names."""
    outline = Outline(made[1])
    assert (outline.broken, outline.opened) == ([], [])
    levels = [int(tag[1]) for tag, _ in outline.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in outline.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = {name for _, a in outline.seen for name in (a.get("aria-labelledby") or "").split()}
    pointed |= {str(a["href"])[1:] for _, a in outline.all("a") if str(a.get("href")).startswith("#")}
    assert pointed <= set(ids)
    tables = len(outline.all("table"))
    assert tables == len(outline.all("caption")) == 9
    assert all(attributes["scope"] in ("col", "row") for _, attributes in outline.all("th"))
    drawn = [attributes for _, attributes in outline.all("svg") if attributes.get("role") == "img"]
    assert len(drawn) == len(outline.all("figcaption")) == 4
    assert dict(outline.all("html")[0][1]) == {"lang": "en"}


def test_page_needs_no_network(made: tuple[Evidence, str]) -> None:
    """Nothing on the page is loaded, and its policy allows the one script and the one style that it holds."""
    page = made[1]
    outline = Outline(page)
    loading = [attributes for tag, attributes in outline.seen if tag in ("img", "iframe", "object", "audio", "source")]
    loading += [attributes for _, attributes in outline.all("script") if "src" in attributes]
    assert loading == []
    assert [attributes["href"] for _, attributes in outline.all("link")] == ["data:,"]
    assert "url(" not in page
    assert "@import" not in page
    policy = next(str(a["content"]) for _, a in outline.all("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        told = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{told}'" in policy
    assert not any("style" in attributes for _, attributes in outline.seen)


def test_same_records_same_page(made: tuple[Evidence, str]) -> None:
    """A page is made of what is recorded and the moment that it names, and of nothing else."""
    evidence, page = made
    again = render(evidence, written=WRITTEN)
    assert again == render(evidence, written=WRITTEN)
    assert Outline(again).text != Outline(page).text  # without tracking there is no command for MLflow's pages


def test_names_are_escaped(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of studies, backbones and machines are text wherever they stand: tables, charts, configuration."""
    monkeypatch.setattr(recorder.tracker, "log_result", lambda *_, **__: None)  # MLflow takes no such name of a metric
    record_study(recorder, name=VILLAIN, backbones=(VILLAIN,), m=(1, 3), machines=("fan", VILLAIN[:60]))
    page = render(gather(recorder.results, Question(study=VILLAIN, resamples=100)), tracking="sqlite:///mlflow.db")
    outline = Outline(page)
    assert len(outline.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in outline.seen for name in attributes)
    assert outline.broken == []
    assert outline.text.count(VILLAIN) > 10
    assert "<svg onload" not in page


def test_passwords_are_not_shown(made: tuple[Evidence, str]) -> None:
    """Neither a database's nor a tracking server's password stands on the page."""

    class Server:
        uri = "https://me:secret@mlflow.example.org/ml"
        experiment = "7"

        from harness.stores.tracker import Tracker

        address = Tracker.address

    evidence = made[0]
    page = render(evidence, tracking="postgresql+psycopg://me:secret@db.example.org/ml")
    assert "secret" not in page
    assert "db.example.org" in page
    served: Any = Server()
    page = render(evidence, tracking=Server.uri, tracker=served)
    assert "secret" not in page
    links = [attributes["href"] for _, attributes in Outline(page).all("a")]
    assert f"https://mlflow.example.org/ml/#/experiments/7/runs/{evidence.boards[0].trials[0]['run_id']}" in links
    assert "mlflow ui" not in page


def test_report_replaces_its_file_whole(recorder: Recorder, tmp_path: Path) -> None:
    """The page replaces an older one in one step, stands in the study's run, and says what it found."""
    run_id = record_study(recorder, backbones=("beats-small",), m=(1, 3))
    out = tmp_path / "report.html"
    out.write_text("older")
    found = report(recorder.results, out, Question(study=KEY, resamples=100), tracker=recorder.tracker)
    assert out.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.glob("*report*")) == ["report.html"]
    assert found["bytes"] == out.stat().st_size
    assert found["run_id"] == run_id
    assert len(found["sentences"]) == 1
    logged = recorder.tracker.client.download_artifacts(run_id, "report.html", str(tmp_path))
    assert Path(logged).read_text() == out.read_text()


@pytest.mark.parametrize(
    ("out", "chosen", "said"),
    [
        ("report.html", {"study": "made-upp"}, "Did you mean 'made-up'"),
        ("report.html", {"backbone": "beats"}, "recorded backbone"),
        ("report.pdf", {}, "must end in .html"),
        ("no/such/report.html", {}, "folder that can be written"),
    ],
)
def test_refusals(recorder: Recorder, tmp_path: Path, out: str, chosen: dict[str, str], said: str) -> None:
    """An unknown study, an unknown backbone and a file that cannot be written are one sentence, and no file is left."""
    record_study(recorder, backbones=("beats-small",), m=(1,), seeds=(0,))
    with pytest.raises(HarnessError, match=said):
        report(recorder.results, tmp_path / out, Question(**chosen))
    assert not list(tmp_path.glob("*report*"))


def test_nothing_recorded(places: Places, asdbench: Any) -> None:
    """Without a recorded trial the verb says what to run, and writes no page."""
    with pytest.raises(HarnessError, match="asdbench demo"):
        verbs.report(Path("report.html"), places=places)
    status, out, err = asdbench("report --out report.html")
    assert (status, out) == (1, "")
    assert "asdbench demo" in err
    assert not Path("report.html").exists()


def test_verb_writes_the_page(recorder: Recorder, places: Places, asdbench: Any, tmp_path: Path) -> None:
    """`report` writes the page, prints the answer and where the page is."""
    record_study(recorder, backbones=("beats-small",), m=(1, 3))
    line = "report --out {out} --study made-up --resamples 100 --db {db}"
    status, out, _ = asdbench(line, out=tmp_path / "page.html", db=places.results)
    assert status == 0
    assert "M = 3" in out
    assert "Logged to MLflow run" in out
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_without_an_answer_the_page_says_why(recorder: Recorder) -> None:
    """A study without M = 1 has a page that says that nothing could be compared, and charts of what there is."""
    record_study(recorder, backbones=("beats-small",), m=(3, 7), judged=False)
    evidence = gather(recorder.results)
    text = Outline(render(evidence)).text
    assert evidence.boards[0].compared == []
    assert "no backbone here has both M = 1 and another M" in text
    assert "Nobody judged these labels" in text
    assert "Label quality against score" not in text  # all have a confidence of 80 %: points above one another


def test_what_all_rows_share_is_said_once(made: tuple[Evidence, str]) -> None:
    """A table has no column that names every row alike: its caption says the value; a trial is counted once."""
    (sheet,) = ranking(made[0].boards[0], place=1)
    assert {"K1/K2", "scorer"}.isdisjoint(heading.text for heading in sheet.headings)
    assert sheet.said.endswith("In every row that has one: K1/K2 15/15, scorer knn.")
    rows = [{**row, "scorer": scorer} for row in made[0].boards[0].rows for scorer in ("knn", "gmm")]
    (sheet,) = ranking(replace(made[0].boards[0], rows=rows), place=1)
    assert "scorer" in [heading.text for heading in sheet.headings]
    assert "Study made-up: 17 finished trials, 1 scorer, 2 seeds." in made[1]
    again = replace(made[0], boards=[replace(made[0].boards[0], rows=rows)])
    assert "Study made-up: 17 finished trials, 2 scorers, 2 seeds." in render(again)


def test_names_and_choices_say_only_what_differs(made: tuple[Evidence, str]) -> None:
    """K1, K2 and fusion, the same in every row, are said in no sentence; M, which was chosen, is."""
    board = made[0].boards[0]
    assert {tuple(row["varied"]) for row in board.selected} == {("m",)}
    assert "with M chosen on other machines (M = " in board.selected[0]["sentence"]
    assert not any("K1" in row["sentence"] for row in board.selected)
    (sheet,) = selected(board, place=1)
    assert sheet.title == "M chosen on the other machines, reported on the one left out."
    at = [heading.text for heading in sheet.headings].index("best on its own test set")
    assert {row.cells[at].content for row in sheet.rows} <= {"M = 1", "M = 3", "M = 7"}
    curve = drawings.figures(board.rows, place=1)[0]
    assert curve.title == "Official score over M"
    assert "The best family of each backbone." in curve.said
    wider = {**board.selected[0], "varied": ["m", "k1", "fusion"]}
    assert choices_said([board.selected[0], wider]) == "M, K1 and fusion"
    assert shown_choice(wider, {"m": 3, "k1": 5, "k2": 15, "fusion": "composite"}) == "M = 3, K1 = 5, composite"


def test_a_number_that_does_not_depend_on_m_is_not_drawn(made: tuple[Evidence, str]) -> None:
    """Quality that differs between backbones alone shows no relation to the score, so that figure is left out."""
    rows = made[0].boards[0].rows
    assert "Label quality against score" in [figure.title for figure in drawings.figures(rows, place=1)]
    flat = [{**row, "purity": 0.5 if row["backbone"] == "beats-small" else 0.7} for row in rows]
    assert "Label quality against score" not in [figure.title for figure in drawings.figures(flat, place=1)]


def test_the_recipe_is_said_by_what_is_not_the_papers() -> None:
    """28 fields are no sentence: of a recipe the page names those that differ from the paper's, in words."""
    assert _recipe({"epochs": 40, "micro_batch": None, "scale_rate": False}) == "the paper's"
    said = _recipe({"epochs": 3, "micro_batch": None, "scale_rate": True, "clip_seconds": None})
    assert said == "the paper's, but epochs = 3, scale_rate = yes, clip_seconds = none"


def test_the_ranking_says_how_to_read_it_and_begins_with_the_score(made: tuple[Evidence, str]) -> None:
    """A phone shows the first four columns; tiers and asterisks are explained where they stand, not in the answer."""
    (sheet,) = ranking(made[0].boards[0], place=1)
    assert [heading.text for heading in sheet.headings][:4] == ["#", "backbone", "M", "official %"]
    assert "Rows of one tier" in sheet.note
    assert made[1].count("Rows of one tier") == 1
    assert made[1].index("Rows of one tier") > made[1].index("<h3>Leaderboard</h3>")
    (of_cost,) = cost(made[0].boards[0], place=1)
    headings = [heading.text for heading in of_cost.headings]
    assert headings[:4] == ["row", "official %", "seconds", "peak MiB"]
    assert "finetune s" not in headings
    assert "fine-tuning" in headings


def test_each_labeling_is_listed_once(made: tuple[Evidence, str]) -> None:
    """Another loss or scorer has the same labels, but not in a second round; other rules or weights have others."""
    first = next(row for row in made[0].boards[0].rows if row["kind"] == "trial")
    loss = {**first, "recipe": "other", "scorer": "gmm"}
    assert first["rules"] == {"min_confidence": 0.9, "below": "drop"}
    assert labeled_rows([first, loss]) == [first]
    twice = [{**row, "labels": "iterated"} for row in (first, loss)]
    assert labeled_rows(twice) == twice
    assert labeled_rows([{**row, "labels": "gone"} for row in (first, loss)]) == [{**first, "labels": "gone"}]
    for change in ({"rules": {"min_confidence": 0.5, "below": "drop"}}, {"confidence": 0.7}, {"classes": 9.0}):
        assert labeled_rows([first, {**loss, **change}]) == [first, {**loss, **change}]
    assert labeled_rows([first, {**loss, "rules": None}]) == [first]
    assert labeled_rows([first, {**loss, "seeds": [0], "classes": 9.0}]) == [first]


def test_zero_of_a_section_is_explained(recorder: Recorder) -> None:
    """Where one section's AUC is 0 the harmonic mean is 0: the page names the section, with the arithmetic mean."""
    clips = clips_of(("fan", "valve"))
    for m in (1, 3):
        record(recorder.results, m=m, seeds=(0,), clips=clips, apart={"fan": -50.0, "valve": 1.0})
    board = gather(recorder.results, comparisons=0).boards[0]
    assert [(zero.metric, zero.sections, zero.rows) for zero in board.zeros] == [
        (metric, ["fan, section 00"], 2) for metric in ("auc", "s_auc", "t_auc")
    ]
    first = next(place for place, row in enumerate(board.rows) if row["kind"] == "trial")
    assert 0.3 < board.zeros[0].means[first] < 0.5
    (sheet,) = ranking(board, place=1)
    assert "here fan, section 00." in sheet.note
    at = [heading.text for heading in sheet.headings].index("AUC mean")
    assert sheet.rows[first].cells[at].content == f"{100 * board.zeros[0].means[first]:.2f}"
    assert "AUC, sAUC and tAUC" in " ".join(board_notes(board.rows))
    assert "of fan." in " ".join(board_notes(board.rows))


def test_single_level_trial(recorder: Recorder) -> None:
    """A lone level trial has a page: no curve, no labels, and the sentence that there is no Top-M to compare."""
    spec = make_spec(kind="level", backbone=None, m=None, k1=None, k2=None)
    result = make_result(spec)
    recorder.finish(recorder.begin(spec), result)
    page = render(gather(recorder.results))
    assert "there is no Top-M to compare with Top-1" in page
    assert Outline(page).broken == []


def test_many_rows_are_capped(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not listed is counted on the page; the references stay, however low they rank."""
    monkeypatch.setattr("harness.report.evidence.LISTED", 2)
    monkeypatch.setattr("harness.report.evidence.TRIALS", 3)
    record_study(recorder, m=(1, 3, 7))
    board = gather(recorder.results, comparisons=0).boards[0]
    assert [row["kind"] for row in board.rows if row["rank"]] == ["trial", "trial", "frozen", "frozen", "level"]
    assert board.more_rows == 4
    assert (len(board.trials), board.more_trials) == (3, 14)
    assert "0 of 2 were compared" in board.not_compared


def test_curve_takes_the_family_with_most_m() -> None:
    """An M-curve goes through one family of a backbone: the one with the most M, among equals the best."""

    def row(m: int, k1: int, score: float) -> dict[str, Any]:
        return {"kind": "trial", "backbone": "b", "m": m, "k1": k1, "k2": 15, "fusion": "composite", "labels": "paper",
                "train": "all", "loss": "cross_entropy", "scorer": "knn", "recipe": "r",
                "official_score": score}  # fmt: skip

    rows = [row(1, 5, 0.9), row(3, 15, 0.8), row(1, 15, 0.7), row(1, 25, 0.6), row(3, 25, 0.5)]
    assert [(each["m"], each["k1"]) for each in curve_families(rows)["b"]] == [(1, 15), (3, 15)]


@pytest.mark.parametrize(
    "hostile", ["[/foo]y", "<script>x</script>", "_hidden", "$a_b$", "a\x1b[31mb\x00\ud800", "b" * 5000]
)
def test_figures_show_names_as_they_are(made: tuple[Evidence, str], hostile: str) -> None:
    """A name is text in a figure: no element, no formula, no line that is left out, no control character, no width."""
    renamed = [
        {**row, "backbone": hostile} if row["backbone"] == "beats-small" else row for row in made[0].boards[0].rows
    ]
    drawn = drawings.figures(renamed, place=1)
    assert len(drawn) == 4
    shown = html.escape(printable(hostile, longest=SHORT), quote=False)
    for figure in drawn:
        outline = Outline(str(figure.chart))
        assert outline.all("script") == []
        assert any(shown in text for text in re.findall(r"<text[^>]*>([^<]*)</text>", str(figure.chart)))
        assert not CONTROLS.search(str(figure.chart).replace("\n", ""))
        assert outline.broken == []


def test_figures_have_ids_of_their_own(made: tuple[Evidence, str]) -> None:
    """Drawn twice a figure is the same text; every reference leads to an id, and no id stands in two figures."""
    rows = made[0].boards[0].rows
    once, again, other = ([str(figure.chart) for figure in drawings.figures(rows, place=n)] for n in (1, 1, 2))
    assert once == again
    ids = [each for chart in (*once, *other) for each in re.findall(r' id="([^"]+)"', chart)]
    assert len(ids) == len(set(ids))
    for chart in once:
        assert set(re.findall(r'href="#([^"]+)"', chart)) <= set(re.findall(r' id="([^"]+)"', chart))
        assert "currentColor" in chart
