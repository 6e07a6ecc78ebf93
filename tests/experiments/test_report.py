import base64
import json
import math
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure as Canvas

import featcore
from featcore.experiments.claims import Claim
from featcore.experiments.protocol import Animation, ExperimentResult, Figure
from featcore.report import chart, style, table, wording
from featcore.report.write import prepare, write

VOID = {"meta", "img", "link", "br", "hr", "rect", "line", "circle", "path"}


class Page(HTMLParser):
    """Checks that tags are balanced and collects what a reader gets."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(autouse=True)
def build_info(monkeypatch):
    monkeypatch.setattr(featcore, "build_info", lambda: {"isa": "avx2"}, raising=False)


def claim(key, **changes):
    stated = {
        "key": key,
        "sentence": f"Sentence of {key}.",
        "source": "derived",
        "reference": f"where {key} comes from",
        "predicted": 1.0,
        "relation": "equal",
        "bias": 0.125,
        "resolution": 1.0,
    }
    return Claim(**(stated | changes))


def draw():
    figure = Canvas()
    axes = figure.subplots()
    axes.plot([0, 1], label="measured")
    axes.legend()
    return figure


def result(name="fake", **changes):
    parts = {
        "name": name,
        "title": f"The experiment {name}",
        "summary": "First paragraph.\n\nSecond\nparagraph.",
        "settings": {"steps": 300, "scale": 0.01},
        "seeds": [0, 1, 2],
        "findings": [
            claim("good", source="paper").judge([1.0, 1.1, 0.9]),
            claim("bad", source="calibrated", unit="nats").judge([3.0, 3.0, 3.0]),
            claim("open", relation="at_least").judge([1.0]),
            claim("lost", relation="at_most").judge([1.0, math.nan]),
            claim("exact").judge(1.0, deterministic=True),
        ],
        "figures": [Figure("curve", "A curve", "What the curve shows.", draw)],
        "data": {"history": xr.Dataset({"loss": ("time", np.arange(3.0))})},
        "notes": ["A note."],
        "seconds": 1.25,
    }
    return ExperimentResult(**(parts | changes))


ANIMATION = b"GIF89a, or what a film writes"


def test_an_animation_stands_among_the_figures(tmp_path):
    film = Animation("film", "A film", "It moves.", lambda path: path.write_bytes(ANIMATION))
    figure = Figure("curve", "A curve", "It stands.", draw)
    paths = write([result(figures=[film, figure])], tmp_path)
    written = tmp_path / "figures" / "fake-film.gif"
    assert paths.figures[0] == written
    assert written.read_bytes() == ANIMATION
    page = Page(paths.html.read_text("utf-8"))
    sources = [image["src"] for image in page.all("img")]
    assert base64.b64decode(sources[0].removeprefix("data:image/gif;base64,")) == ANIMATION
    assert sources[1].startswith("data:image/svg+xml")
    assert "It moves. figures/fake-film.gif" in page.text


def test_an_animation_that_fails_is_told_and_leaves_no_file(tmp_path):
    def fails(path):
        path.write_bytes(b"half")
        raise RuntimeError("no more frames")

    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "fake-film.gif").write_bytes(b"of an earlier report")
    paths = write([result(figures=[Animation("film", "A film", "c", fails)])], tmp_path)
    assert list((tmp_path / "figures").iterdir()) == []
    assert "no more frames" in str(paths.failures["fake-film"])
    assert "no more frames" in paths.html.read_text("utf-8")


def test_settings_within_settings_are_listed(tmp_path):
    nested = {"steps": 300, "phase": {"points": 20, "norms": [2.0, 40.0]}}
    page = write([result(settings=nested)], tmp_path).html.read_text("utf-8")
    assert "<dt>phase</dt><dd>points 20, norms [2.0, 40.0]</dd>" in page
    assert "<dt>steps</dt><dd>300</dd>" in page


def test_everything_is_written_and_reads_back(tmp_path):
    paths = write([result()], tmp_path / "a" / "b", commands={"fake": "featcore reproduce fake"})
    assert paths.folder == tmp_path / "a" / "b"
    written = {str(path.relative_to(paths.folder)) for path in paths.folder.rglob("*.*")}
    assert written == {
        "report.html",
        "claims.json",
        "figures/fake-curve.png",
        "figures/fake-curve.svg",
        "data/fake-history.nc",
    }
    assert {*paths.figures, *paths.data, paths.html, paths.claims} == {
        paths.folder / name for name in written
    }
    assert paths.figures[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths.figures[1].read_bytes()
    with xr.open_dataset(paths.data[0], engine="h5netcdf") as data:
        assert data.loss.values.tolist() == [0.0, 1.0, 2.0]
        assert json.loads(data.attrs["settings"]) == {"steps": 300, "scale": 0.01}
        assert json.loads(data.attrs["seeds"]) == [0, 1, 2]


def test_claims_json_is_strict_and_complete(tmp_path):
    path = write([result()], tmp_path, unfinished=["other"]).claims
    record = json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)
    assert record["unfinished"] == ["other"]
    assert record["build"] == {"isa": "avx2"}
    assert record["versions"]["numpy"] == np.__version__
    [experiment] = record["experiments"]
    findings = {finding["key"]: finding for finding in experiment["findings"]}
    assert [finding["verdict"] for finding in findings.values()] == [
        "holds",
        "fails",
        "inconclusive",
        "fails",
        "holds",
    ]
    assert findings["lost"]["samples"] == [1.0, None]
    assert findings["good"]["bias"] == 0.125


def test_the_page_is_self_contained_and_says_everything(tmp_path):
    results = [result(), result("other")]
    text = write(results, tmp_path, commands={"fake": "featcore reproduce fake"}).html.read_text(
        "utf-8"
    )
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not page.all("script")
    assert not page.all("link")
    words = " ".join(page.text.split())
    for finding in results[0].findings:
        for part in (finding.claim.sentence, finding.claim.reference, finding.note):
            assert part in words
        for part in (wording.predicted, wording.measured, wording.tolerance_formula):
            told = part(finding.claim) if part is wording.predicted else part(finding)
            assert told in words
        assert wording.SOURCE_WORDS[finding.claim.source] in words
    for part in (
        "4 of 10 claims hold, 4 fail, 2 are inconclusive",
        "Second paragraph.",
        "What the curve shows.",
        "A note.",
        "featcore reproduce fake",
        "0 to 2",
        "300",
        "avx2",
        np.__version__,
    ):
        assert part in words
    images = page.all("img")
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert all(cell.get("scope") for cell in page.all("th"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        if "href" in attrs:
            assert attrs["href"].removeprefix("#") in ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert attrs.get(name, ids[0]) in ids


def test_several_experiments_have_an_index(tmp_path):
    """One row each, in order: a link to where it stands, verdicts, figures, seeds and time."""
    other = result(
        name="other", findings=[claim("good").judge([1.0, 1.0])], figures=[], seconds=61.4
    )
    page = write([result(), other], tmp_path).html.read_text(encoding="utf-8")
    index = page.partition('<table class="index">')[2].partition("</table>")[0]
    head, first, second = index.split("<tr")[1:]
    assert re.findall(r"<th[^>]*>(.*?)</th>", head) == [
        "Experiment",
        "holds",
        "fails",
        "inconclusive",
        "Figures",
        "Seeds",
        "Time",
    ]
    for row, name, cells in (
        (first, "fake", ["2", "2", "1", "1", "3", "1 s"]),
        (second, "other", ["1", "0", "0", "0", "3", "61 s"]),
    ):
        assert f'<a href="#{name}">The experiment {name}</a>' in row
        assert "First paragraph." in row
        texts = [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        assert texts == cells
    Page(page)
    assert '<section id="other"' in page
    alone = write([result()], tmp_path).html.read_text(encoding="utf-8")
    assert '<table class="index">' not in alone
    assert page.count('<a href="#fake">') == alone.count('<a href="#fake">') == 1


def test_hostile_texts_are_escaped(tmp_path):
    evil = "</p><script>alert('x')</script> \"quoted\" & {{ 7 * 7 }} \x1b[31m"
    hostile = result(
        title=evil,
        summary=evil,
        settings={evil: evil},
        notes=[evil],
        findings=[claim(evil, sentence=evil, reference=evil, unit=evil).judge([1.0, 1.0])],
        figures=[Figure("curve", evil, evil, draw)],
    )
    text = write([hostile], tmp_path, commands={"fake": evil}, unfinished=[evil]).html.read_text(
        "utf-8"
    )
    page = Page(text)
    assert not page.all("script")
    assert "alert('x')" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.all("img")[0]["alt"] == evil
    assert "\x1b" not in table.render([hostile])
    assert "\x1b[31m" not in table.render([hostile], width=120)


def test_figures_are_the_same_bytes_each_time_and_leave_matplotlib_alone():
    def settings():
        # a backend is looked for at the first glance; it is no concern of ours
        return {
            name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"
        }

    before = settings()
    first, second = style.render(draw), style.render(draw)
    assert first == second
    assert settings() == before
    with matplotlib.rc_context({"axes.facecolor": "pink", "font.size": 40}):
        assert style.render(draw) == first
    assert b"<dc:date>" not in first.svg


def test_a_large_svg_goes_into_the_page_as_png(tmp_path, monkeypatch):
    monkeypatch.setattr("featcore.report.write._LARGEST_INLINE_SVG", 10)
    text = write([result()], tmp_path).html.read_text("utf-8")
    assert Page(text).all("img")[0]["src"].startswith("data:image/png;base64,")


def test_a_report_replaces_the_one_before(tmp_path):
    write([result()], tmp_path)
    (tmp_path / "mine.txt").write_text("keep")
    text = write([result(title="The second run")], tmp_path).html.read_text("utf-8")
    assert "The second run" in text
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_figure_that_cannot_be_drawn_is_noted_in_its_place(tmp_path):
    def broken():
        raise ValueError("no <room> \x1b[31m")

    def unsaved():
        figure = draw()
        figure.axes[0].set_title("$\\nonsense$")  # fails only when it is saved
        return figure

    write([result()], tmp_path)
    figures = [
        Figure("curve", "A broken curve", "Never seen.", broken),
        Figure("text", "A text", "c", unsaved),
        Figure("other", "Another", "What the other shows.", draw),
    ]
    paths = write([result(figures=figures)], tmp_path)
    assert list(paths.failures) == ["fake-curve", "fake-text"]
    assert isinstance(paths.failures["fake-curve"], ValueError)
    # the files of the report before would be mistaken for those of this one
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {"fake-other.png", "fake-other.svg"} == {path.name for path in paths.figures}
    page = Page(paths.html.read_text("utf-8"))
    assert [image["alt"] for image in page.all("img")] == ["Another"]
    assert "A broken curve" in page.text
    assert "This figure could not be drawn. ValueError: no <room>" in page.text
    assert "What the other shows." in page.text
    assert "Sentence of good." in page.text
    assert not page.all("room")
    assert write([result()], tmp_path).failures == {}


def test_an_interrupt_while_drawing_is_no_failed_figure(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write([result(figures=[Figure("curve", "t", "c", interrupted)])], tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_exceptions_in_words():
    assert wording.exception(ValueError("bad axis")) == "ValueError: bad axis"
    assert wording.exception(MemoryError()) == "MemoryError"


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    old = write([result()], tmp_path).html.read_bytes()

    def broken(*_):
        raise RuntimeError("cannot place")

    monkeypatch.setattr("featcore.report.write._page", broken)
    with pytest.raises(RuntimeError, match="cannot place"):
        write([result(title="Another")], tmp_path)
    assert (tmp_path / "report.html").read_bytes() == old
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_broken_data_set_leaves_no_rubbish(tmp_path):
    bad = xr.Dataset({"x": ("time", np.array([object()]))})
    with pytest.raises(Exception, match=r".*"):
        write([result(data={"history": bad})], tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("blocked", ["", "figures", "data"])
def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, blocked):
    out = tmp_path / "out"
    (out / blocked).parent.mkdir(exist_ok=True)
    (out / blocked).write_text("a file in the way")
    with pytest.raises(OSError, match=r"out_dir='.*out' cannot be written .*choose another folder"):
        prepare(out)
    with pytest.raises(OSError, match="cannot be written"):
        write([result()], out)


def test_a_folder_in_the_place_of_the_page_is_refused(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"'report.html' where a file must go"):
        prepare(tmp_path)


def test_preparing_leaves_only_folders(tmp_path):
    prepare(tmp_path / "new" / "folder")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e12))
def test_measured_shows_the_standard_error_with_two_digits(mean, error):
    finding = claim("k", predicted=0.0, resolution=1e300).judge([mean, mean])
    finding = type(finding)(**(vars(finding) | {"standard_error": error}))
    text = wording.measured(finding)
    match = re.fullmatch(r"\(?(-?[\d.e+-]+) ± ([\d.e+-]+?)\)?(?:e(-?\d+))?", text)
    assert match, text
    power = 10.0 ** int(match[3] or 0)
    if error > 1e-9 * abs(mean):
        assert float(match[2]) * power == pytest.approx(error, rel=0.06)
        assert float(match[1]) * power == pytest.approx(mean, abs=0.06 * error)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([0.64, 0.65, 0.66], "0.6500 ± 0.0058"),
        ([1.0, 1.0], "1 ± 0"),
        ([7.4e-7, 7.6e-7], "(7.50 ± 0.10)e-7"),
        ([1.0], "1"),
        ([], "–"),
        ([1.0, math.inf], "–"),
    ],
)
def test_measured_in_words(samples, text):
    assert wording.measured(claim("k").judge(samples)) == text


def test_tolerance_in_words():
    assert wording.tolerance(claim("k").judge([0.9, 1.1])) == "0.125 + 3 × 0.1 = 0.425"
    assert wording.tolerance(claim("k").judge(1.0, deterministic=True)) == "0.125"
    assert wording.tolerance(claim("k").judge([1.0])) == "0.125 + 3 SE"


def test_headline():
    good, bad = result().findings[:2]
    assert wording.headline([]) == "No claim was made"
    assert wording.headline([good]) == "1 of 1 claim holds"
    assert wording.headline([good, good]) == "All 2 claims hold"
    assert wording.headline([good, bad]) == "1 of 2 claims hold, 1 fails"


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["equal", "at_least", "at_most"]),
)
def test_charts_stay_in_their_box(samples, predicted, relation):
    drawn = chart.chart(claim("k", predicted=predicted, relation=relation).judge(samples))
    places = (drawn.predicted, drawn.mean, *drawn.allowed, *drawn.samples)
    assert all(0 <= place <= chart.WIDTH for place in places)
    assert drawn.allowed[0] <= drawn.predicted <= drawn.allowed[1]


def test_the_table_fits_every_width():
    wide = result(findings=[claim("k", sentence="[red]word[/red] " * 30).judge([1.0, 1.0])])
    for width in (None, 30, 60, 90, 200):
        text = table.render([wide], width=width)
        bare = re.sub(r"\x1b\[[\d;]*m", "", text)
        assert max(map(len, bare.splitlines())) <= (width or 100)
        assert "[red]word[/red]" in bare
        assert ("\x1b" in text) == (width is not None and width >= 90)
