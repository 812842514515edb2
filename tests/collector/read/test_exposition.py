"""The incremental parser of exposition pages."""

import gzip
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.samples import Sample

from collector.read.exposition import OPENMETRICS, TEXT, Change, Page, Series
from tests.data import data

PAGES = [
    *("serving/vllm-0.32.0-cpu-real", "serving/vllm-0.32.0-rust-frontend-real"),
    *("serving/vllm-0.33.0-statlogger", "serving/vllm-idle-by-version"),
    *("serving/sglang-0.5.23-collectors", "serving/llama.cpp-real", "dcgm"),
]
MALFORMED = {"viettel.prom"}  # labels left out by hand: gpu="0",...,modelName=


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def read(page: Page | None = None, body: str = "", kind: str = TEXT) -> tuple[Page, Change]:
    page = page or Page()
    return page, page.update(body.encode(), kind)


def values(page: Page) -> dict[str, float]:
    return {
        s.name + "".join(f",{k}={v}" for k, v in s.labels.items()): s.value for s in page.series
    }


def assert_equal(series: list[Series], samples: list[Sample]) -> None:
    assert len(series) == len(samples)
    for ours, theirs in zip(series, samples, strict=True):
        assert ours.name == theirs.name
        assert ours.labels == dict(theirs.labels)
        assert same(ours.value, float(theirs.value))
        if theirs.timestamp is None:
            assert ours.time is None
        else:
            assert ours.time == pytest.approx(float(theirs.timestamp))


@pytest.mark.parametrize(
    ("line", "name", "labels", "value", "time"),
    [
        ("a 1", "a", {}, 1.0, None),
        ("a:b_c 1e3", "a:b_c", {}, 1000.0, None),
        ('a{x="1",y="two words"} -2.5', "a", {"x": "1", "y": "two words"}, -2.5, None),
        ('a{x="1",} 3', "a", {"x": "1"}, 3.0, None),
        ("a{} 3", "a", {}, 3.0, None),
        ('a { x = "1" , y="2" }  4', "a", {"x": "1", "y": "2"}, 4.0, None),
        ('a{x="1"}5', "a", {"x": "1"}, 5.0, None),
        ("a\t6", "a", {}, 6.0, None),
        (r'a{x="q\"b\\n\n"} 7', "a", {"x": 'q"b\\n\n'}, 7.0, None),
        (r'a{x="C:\dir"} 7', "a", {"x": "C:\\dir"}, 7.0, None),
        ('a{x="}{,=# é"} 8', "a", {"x": "}{,=# é"}, 8.0, None),
        ("a +Inf", "a", {}, math.inf, None),
        ("a -Inf", "a", {}, -math.inf, None),
        ("a 9 1795426601643", "a", {}, 9.0, 1795426601.643),
        ("a 10\r", "a", {}, 10.0, None),
    ],
)
def test_line(line, name, labels, value, time):
    page, change = read(body=line + "\n")
    (series,) = page.series
    assert (series.name, series.labels, series.value, series.time) == (name, labels, value, time)
    assert change.error is None
    assert change.series == [series]


def test_nan():
    page, _ = read(body="a NaN\n")
    assert math.isnan(page.series[0].value)


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a ",
        "a{",
        'a{x="1" 2',
        'a{x="1}" 2',
        "a{x=1} 2",
        'a{x="1",x="2"} 2',
        'a{x="1"y="2"} 2',
        'a{gpu="0",...,model="b"} 2',
        "a 1_000",
        "a one",
        "a 1 2 3",
        "1a 2",
        "{} 2",
        "a-b 2",
        "<html>",
    ],
)
def test_malformed_line_is_skipped_and_counted(line):
    page, change = read(body=f"first 1\n{line}\nlast 2\n")
    assert values(page) == {"first": 1.0, "last": 2.0}
    assert change.malformed == 1
    assert "line 2" in str(change.error)


def test_label_that_is_no_utf8_is_malformed():
    page = Page()
    change = page.update(b'a{x="\xff"} 1\nb 2\n')
    assert values(page) == {"b": 2.0}
    assert change.malformed == 1


def test_openmetrics():
    body = (
        "# TYPE a counter\n"
        'a_total{x="1"} 5 1795426601.5 # {trace_id="q # 1"} 0.5 1795426600\n'
        'a_created{x="1"} 1.5\n'
        "# EOF\n"
    )
    page, change = read(body=body, kind=f"{OPENMETRICS}; version=1.0.0")
    assert values(page) == {"a_total,x=1": 5.0, "a_created,x=1": 1.5}
    assert page.series[0].time == 1795426601.5
    assert change.error is None


def test_counter_has_the_name_that_is_on_the_page():
    old, _ = read(body="# TYPE a_total counter\na_total 1\n")
    new, _ = read(body="# TYPE a counter\na_total 1\n# EOF\n", kind=OPENMETRICS)
    assert values(old) == values(new) == {"a_total": 1.0}


@pytest.mark.parametrize(
    ("body", "kind", "cut"),
    [
        ("a 1\nb 2\n", TEXT, False),
        ("a 1\nb 2", TEXT, True),
        ("", TEXT, True),
        ("a 1\n# EOF\n", OPENMETRICS, False),
        ("a 1\n# EOF", OPENMETRICS, False),
        ("a 1\r\n# EOF\r\n", OPENMETRICS, False),
        ("a 1\n", OPENMETRICS, True),
        ("a 1\n# E", OPENMETRICS, True),
    ],
)
def test_cut(body, kind, cut):
    page, change = read(body=body, kind=kind)
    assert change.cut is cut
    assert ("cut off" in str(change.error)) is cut
    # Of `b 2` without its end no one knows whether it was `b 25`.
    assert "b" not in values(page) or not cut


def test_after_a_cut_page_the_next_is_whole():
    page, _ = read(body="a 1\nb 2\nc 3\n")
    _, change = read(page, "a 1\nb 2")
    assert change.cut
    assert values(page) == {"a": 1.0}
    _, change = read(page, "a 1\nb 2\nc 4\n")
    assert change.error is None
    assert values(page) == {"a": 1.0, "b": 2.0, "c": 4.0}


def test_of_duplicates_the_first_is_kept():
    body = 'a{x="1",y="2"} 1\nb 5\na{y="2",x="1"} 2\n'
    page, change = read(body=body)
    assert values(page) == {"a,x=1,y=2": 1.0, "b": 5.0}
    assert change.duplicates == 1
    assert "line 3" in str(change.error)
    # Still so where only values change.
    _, change = read(page, body.replace(" 2\n", " 3\n").replace(" 5", " 6"))
    assert values(page) == {"a,x=1,y=2": 1.0, "b": 6.0}
    assert change.duplicates == 1
    assert not change.rebuilt


def test_what_changed():
    page, first = read(body='# HELP a x\na{x="1"} 1\na{x="2"} 2\nb 3\n')
    one, two, b = page.series
    assert first.rebuilt
    assert first.series == [one, two, b]
    _, change = read(page, '# HELP a x\na{x="1"} 1\na{x="2"} 7\nb 3\n')
    assert not change.rebuilt
    assert change.series == [two]
    assert two.value == 7.0
    _, change = read(page, '# HELP a x\na{x="1"} 1\na{x="2"} 7\na{x="3"} 0\nb 4\n')
    assert change.rebuilt
    assert [s.labels.get("x") for s in change.series] == ["3", None]
    assert page.series[0] is one
    assert page.series[3] is b
    _, change = read(page, "b 4\n")
    assert change.rebuilt
    assert change.series == []
    assert page.series == [b]


def test_line_that_turns_malformed_and_back():
    page, _ = read(body="a 1\nb 2\n")
    _, change = read(page, "a x\nb 3\n")
    assert change.malformed == 1
    assert values(page) == {"b": 3.0}
    _, change = read(page, "a 2\nb 3\n")
    assert change.error is None
    assert values(page) == {"a": 2.0, "b": 3.0}


def test_name_that_begins_like_another():
    page, _ = read(body="a 1\nab 1\n")
    read(page, 'ab 2\na{x="1"} 3\n')
    assert values(page) == {"ab": 2.0, "a,x=1": 3.0}


def test_only_wanted_names_are_read():
    page = Page({"a_total"})
    body = "a_total 1\na 2\na_total_more 3\nother{ 4\n"
    _, change = read(page, body)
    assert values(page) == {"a_total": 1.0}
    assert change.error is None
    _, change = read(page, body.replace(" 2", " 9").replace("{ 4", "{ 5"))
    assert not change.rebuilt
    _, change = read(page, body.replace("a 2", "a_total 2"))
    assert change.duplicates == 1


NAMES = st.from_regex(r"[a-z_:][a-z0-9_:]{0,6}", fullmatch=True)
LABELS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True).filter(lambda name: name != "__name__"),
    st.text(
        st.characters(
            exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
        ),
        max_size=8,
    ),
    max_size=3,
)
FLOATS = st.floats() | st.integers(-(10**6), 10**6).map(float)


def rendered(name: str, labels: dict[str, str], value: float) -> str:
    escaped = {
        k: v.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        for k, v in labels.items()
    }
    inner = ",".join(f'{k}="{v}"' for k, v in escaped.items())
    return f"{name}{{{inner}}} {value!r}" if labels else f"{name} {value!r}"


def unique(samples):
    return list(
        {(n, frozenset(labels.items())): (n, labels, v) for n, labels, v in samples}.values()
    )


SAMPLES = st.lists(st.tuples(NAMES, LABELS, FLOATS), max_size=12).map(unique)


@given(SAMPLES)
def test_equals_prometheus_client(samples):
    body = "".join(rendered(*sample) + "\n" for sample in samples)
    page, change = read(body=body)
    assert change.malformed == 0
    assert_equal(page.series, [s for family in text(body) for s in family.samples])


@given(st.lists(SAMPLES, min_size=2, max_size=5), st.data())
def test_page_after_page_equals_each_page_alone(versions, drawn):
    """Values change, lines come, go and change places: the result is that of a fresh parser."""
    page = Page()
    bodies = []
    for samples in versions:
        bodies.append([rendered(*sample) for sample in samples])
        moved = [rendered(n, labels, drawn.draw(FLOATS)) for n, labels, _ in samples]
        bodies.append(moved)
        bodies.append(drawn.draw(st.permutations(moved)) if moved else [])
    before: dict[int, float] = {}
    for lines in bodies:
        body = "".join(line + "\n" for line in lines)
        _, change = read(page, body)
        alone, _ = read(body=body)
        assert [(s.name, s.labels) for s in page.series] == [
            (s.name, s.labels) for s in alone.series
        ]
        assert all(same(a.value, b.value) for a, b in zip(page.series, alone.series, strict=True))
        changed = set(map(id, change.series))
        for series in page.series:
            if not same(before.get(id(series), math.nan), series.value):
                assert id(series) in changed
        before = {id(series): series.value for series in page.series}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.booleans())
def test_garbage_never_raises(body, is_openmetrics):
    page = Page()
    page.update(b"a 1\nb 2\n")
    page.update(body, OPENMETRICS if is_openmetrics else TEXT)
    page.update(body + b"\n")
    page.update(b"a 1\nb 2\n")
    assert values(page) == {"a": 1.0, "b": 2.0}


@given(SAMPLES.filter(bool), st.data())
def test_cut_anywhere_keeps_the_complete_lines(samples, drawn):
    body = "".join(rendered(*sample) + "\n" for sample in samples).encode()
    end = drawn.draw(st.integers(0, len(body) - 1))
    page, whole = Page(), Page()
    change = page.update(body[:end])
    whole.update(body)
    assert change.cut == (not body[:end].endswith(b"\n"))
    assert len(page.series) == body[:end].count(b"\n")
    assert [s.key for s in page.series] == [s.key for s in whole.series[: len(page.series)]]


@pytest.mark.parametrize("folder", PAGES)
def test_real_pages(folder):
    root = data(folder)
    paths = sorted(path for path in root.iterdir() if path.suffix in (".prom", ".om"))
    assert paths
    for path in paths:
        body = path.read_text()
        kind, peer = (OPENMETRICS, openmetrics) if path.suffix == ".om" else (TEXT, text)
        page, change = read(body=body, kind=kind)
        if path.name in MALFORMED:
            assert change.malformed > 0
            good = [
                line for line in body.splitlines() if line and line[0] != "#" and "..." not in line
            ]
            assert len(page.series) == len(good)
            continue
        assert change.error is None, path
        samples = [s for family in peer(body) for s in family.samples]
        if kind is TEXT:
            # The peer adds _total to names of counters that have none.
            names = {line.split("{")[0].split(" ")[0] for line in body.splitlines()}
            samples = [
                s if s.name in names else s._replace(name=s.name.removesuffix("_total"))
                for s in samples
            ]
        if path.suffix == ".prom":
            assert_equal(page.series, samples)
        else:
            assert {(s.key, s.value) for s in page.series} == {
                ((s.name, frozenset(s.labels.items())), float(s.value)) for s in samples
            }


def test_real_timeline_incrementally():
    """240 pages of a real server, in order and out of order, on one parser."""
    with gzip.open(data("serving/vllm-0.32.0-cpu-real/timeline.jsonl.gz"), "rt") as lines:
        bodies = [body for line in lines if (body := json.loads(line)["body"])]
    assert len(bodies) > 150
    some = bodies[::12]
    page = Page()
    for body in (*some, *random.Random(1).sample(some, len(some))):
        _, change = read(page, body)
        assert change.error is None
        alone, _ = read(body=body)
        assert values(page) == values(alone)
        assert any(s.name == "vllm:generation_tokens_total" for s in page.series)


def test_llama_cpp_counts_what_its_clients_counted():
    page = Page(None)
    page.update(data("serving/llama.cpp-real/after60.prom").read_bytes())
    counted = {one.name.removeprefix("llamacpp:"): one.value for one in page.series}
    usage = [
        request["usage"]
        for request in json.loads(data("serving/llama.cpp-real/truth.json").read_text())
    ]
    prompt = counted["prompt_tokens_total"] + counted["prompt_tokens_cached_total"]
    assert prompt == sum(one["prompt_tokens"] for one in usage)
    assert counted["tokens_predicted_total"] == sum(one["completion_tokens"] for one in usage)
