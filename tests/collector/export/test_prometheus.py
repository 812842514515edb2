import gzip
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as classic

from collector.catalog import attribution, gpu, serving
from collector.entity import Kind
from collector.export.prometheus import Page, wants_gzip, wants_openmetrics
from collector.metric import COUNTER, GAUGE, Metric
from collector.store import Store
from tests.fakes.series import NOW, fill

FREE = Metric("test.free", GAUGE, "", Kind.DAEMON, 'Says "free"\n\\.', ("a", "b.c"))


def page(*samples, **kwargs):
    store = Store(history=60)
    fill(store, samples)
    return Page(store).render(NOW + 1, **kwargs)


def samples(text, parser=strict):
    return [
        (s.name, tuple(sorted(s.labels.items())), s.value, s.timestamp)
        for family in parser(text)
        for s in family.samples
    ]


def test_text_page():
    text = page(
        (gpu.POWER, ("node1", "GPU-1"), 301.5),
        (gpu.ENERGY, ("node1", "GPU-1"), 1e16),
        (gpu.POWER, ("node1", "GPU-2"), 0.0),
    ).decode()
    assert text == (
        "# HELP w2t_gpu_energy_joules_total Board energy; driver reloads are bridged over.\n"
        "# TYPE w2t_gpu_energy_joules_total counter\n"
        'w2t_gpu_energy_joules_total{host_name="node1",hw_id="GPU-1",hw_type="gpu"} 1e+16\n'
        "# HELP w2t_gpu_power_watts Board power draw at this instant.\n"
        "# TYPE w2t_gpu_power_watts gauge\n"
        'w2t_gpu_power_watts{host_name="node1",hw_id="GPU-1",hw_type="gpu"} 301.5\n'
        'w2t_gpu_power_watts{host_name="node1",hw_id="GPU-2",hw_type="gpu"} 0.0\n'
    )


def test_openmetrics_page():
    text = page((gpu.ENERGY, ("node1", "GPU-1"), 7.0), openmetrics=True).decode()
    assert text == (
        "# HELP w2t_gpu_energy_joules Board energy; driver reloads are bridged over.\n"
        "# TYPE w2t_gpu_energy_joules counter\n"
        "# UNIT w2t_gpu_energy_joules joules\n"
        'w2t_gpu_energy_joules_total{host_name="node1",hw_id="GPU-1",hw_type="gpu"} 7.0\n'
        "# EOF\n"
    )


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        (gpu.UTILIZATION, "ratio"),
        (attribution.ENGINE_ENERGY_PER_TOKEN, "joules"),
        (gpu.INFO, None),
        (gpu.PROCESSES, None),
        (Metric("a.watts.now", GAUGE, "W", Kind.DAEMON, "Unit not at the end."), None),
        (Metric("a.rate", GAUGE, "By/s", Kind.DAEMON, "Two words."), "bytes_per_second"),
        (Metric("a.parts", COUNTER, "1", Kind.DAEMON, "Counter without unit."), None),
    ],
)
def test_unit_only_where_it_ends_the_name(metric, unit):
    labels = ("x",) * (len(metric.kind.keys) + len(metric.labels))
    text = page((metric, labels, 1.0), openmetrics=True).decode()
    found = re.findall(r"# UNIT (\S+) (\S+)\n", text)
    assert found == ([(metric.prometheus, unit)] if unit else [])
    assert len(list(strict(text))) == 1


def test_no_series():
    assert page() == b""
    assert page(openmetrics=True) == b"# EOF\n"


def test_help_is_escaped_for_each_format():
    sample = (FREE, ("x", "y"), 1.0)
    assert b'# HELP w2t_test_free Says "free"\\n\\\\.\n' in page(sample)
    assert b'# HELP w2t_test_free Says \\"free\\"\\n\\\\.\n' in page(sample, openmetrics=True)


def test_a_family_stays_whole_where_labels_are_empty():
    longer = Metric("test.free_more", GAUGE, "", Kind.DAEMON, "Sorts in between.", ("a",))
    text = page(
        (FREE, ("x", ""), 1.0), (longer, ("x",), 2.0), (FREE, ("", ""), 3.0), (longer, ("",), 4.0)
    ).decode()
    assert [line for line in text.splitlines() if line[0] != "#"] == [
        'w2t_test_free{a="x"} 1.0',
        "w2t_test_free 3.0",
        'w2t_test_free_more{a="x"} 2.0',
        "w2t_test_free_more 4.0",
    ]
    assert text.count("# TYPE") == 2


def test_nan_is_absent_and_infinity_is_written():
    text = page(
        (FREE, ("a", ""), math.nan), (FREE, ("b", ""), math.inf), (FREE, ("c", ""), -math.inf)
    ).decode()
    assert 'a="a"' not in text
    assert 'w2t_test_free{a="b"} +Inf\n' in text
    assert text.endswith('w2t_test_free{a="c"} -Inf\n')


def test_a_lone_surrogate_does_not_lose_the_page():
    assert b'w2t_test_free{a="?x"} 1.0' in page((FREE, ("\udc80x", ""), 1.0))


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_any_double_reads_back_equal(values):
    body = page(*((FREE, (str(i), ""), value) for i, value in enumerate(values)), openmetrics=True)
    found = [value for _, _, value, _ in samples(body.decode())]
    assert [(v, math.copysign(1, v)) for v in found] == [(v, math.copysign(1, v)) for v in values]


LABEL = st.text() | st.text(alphabet='\\n"\n{},= #')


@given(st.lists(st.tuples(LABEL, LABEL), max_size=8, unique=True), st.booleans())
def test_any_label_reads_back_equal(labels, openmetrics):
    text = page(*((FREE, pair, 1.0) for pair in labels), openmetrics=openmetrics).decode()
    expected = [
        tuple((name, value) for name, value in (("a", a), ("b_c", b)) if value) for a, b in labels
    ]
    found = samples(text, strict if openmetrics else classic)
    assert [labels for _, labels, _, _ in found] == expected
    assert all(timestamp is None for *_, timestamp in found)


def test_gzip_is_the_same_page():
    sample = (gpu.POWER, ("node1", "GPU-1"), 301.5)
    for openmetrics in (False, True):
        packed = page(sample, openmetrics=openmetrics, gzip=True)
        assert gzip.decompress(packed) == page(sample, openmetrics=openmetrics)


def test_the_page_follows_the_store():
    store = Store(history=60)
    both = Page(store)

    def render(at):
        """The kept page and one made anew must agree, in all forms."""
        text = both.render(at).decode()
        for openmetrics in (False, True):
            kept = both.render(at, openmetrics=openmetrics)
            assert kept == Page(store).render(at, openmetrics=openmetrics)
            assert gzip.decompress(both.render(at, openmetrics=openmetrics, gzip=True)) == kept
        return [line.split("}")[1] for line in text.splitlines() if line[0] != "#"]

    one, two = ("node1", "GPU-1"), ("node1", "GPU-2")
    assert render(NOW) == []
    fill(store, [(gpu.POWER, one, 1.0)])
    assert render(NOW + 1) == [" 1.0"]
    fill(store, [(gpu.POWER, one, 2.0)], NOW + 2)
    assert render(NOW + 2) == [" 2.0"]
    fill(store, [(gpu.ENERGY, two, 3.0), (gpu.POWER, two, 4.0)], NOW + 20)
    assert render(NOW + 20) == [" 3.0", " 2.0", " 4.0"]
    fill(store, [(gpu.ENERGY, two, math.nan)], NOW + 21)
    assert render(NOW + 21) == [" 2.0", " 4.0"]
    fill(store, [(gpu.ENERGY, two, 5.0)], NOW + 22)
    assert render(NOW + 22) == [" 5.0", " 2.0", " 4.0"]
    assert render(NOW + 40) == [" 5.0", " 4.0"]  # the first is stale
    assert render(NOW + 100) == []


def test_a_row_that_is_used_again_shows_its_new_series():
    store = Store(history=60)
    kept = Page(store)
    fill(store, [(gpu.POWER, ("node1", "GPU-1"), 1.0)])
    assert b"GPU-1" in kept.render(NOW)
    store.evict(NOW + 1000)
    fill(store, [(serving.PREEMPTIONS, ("h", "80", "0", "m"), 1.0)], NOW + 1000)
    assert len(store.series) == 1
    text = kept.render(NOW + 1000).decode()
    assert "GPU-1" not in text
    assert "w2t_engine_preemptions_total{" in text


def test_an_unchanged_store_is_not_rendered_again():
    store = Store(history=60)
    fill(store, [(gpu.POWER, ("node1", "GPU-1"), 1.0)])
    kept = Page(store)
    [first], [again] = (kept.stream(at, gzip=True)[1] for at in (NOW + 1, NOW + 2))
    assert first is again


def test_rendering_leaves_the_store_as_it_is():
    store = Store(history=60)
    fill(store, [(gpu.POWER, ("node1", "GPU-1"), 1.0)])
    before = store.version, store.generation, store.value.tobytes(), store.time.tobytes()
    Page(store).render(NOW + 1, openmetrics=True, gzip=True)
    assert before == (
        store.version,
        store.generation,
        store.value.tobytes(),
        store.time.tobytes(),
    )


OLD = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
NEW = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (OLD, True),
        (NEW, True),
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.3", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.1,*/*;q=0.9", True),
        ("application/openmetrics-text;q=x", False),
        (",;=,;q=;;", False),
    ],
)
def test_negotiation(accept, openmetrics):
    assert wants_openmetrics(accept) is openmetrics


@pytest.mark.parametrize(
    ("header", "gzip_"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("*", True),
        ("gzip;q=0, *", False),
        ("identity", False),
    ],
)
def test_encoding(header, gzip_):
    assert wants_gzip(header) is gzip_
