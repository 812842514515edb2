"""A scrape and OTLP give one Prometheus the same series, for every metric there is."""

import re
import shutil
import subprocess

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as Message
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

from collector import catalog
from collector.export.otlp_request import Requests
from collector.export.prometheus import Page
from collector.metric import GAUGE
from collector.store import Store
from tests.fakes.series import NOW, every, fill

# What Prometheus makes of OTLP, told by its own guide and by the specification's page on
# compatibility (opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/), and
# written here without looking at collector.metric.
MAIN = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
    "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes",
    "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
    "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts",
    "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz",
    "1": "", "%": "percent",
}  # fmt: skip
PER = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}


def word(unit, words):
    """A unit's word; annotations in braces have none."""
    unit = unit.strip()
    if re.search("[{}]", unit):
        return ""
    return re.sub("[^a-zA-Z0-9:]+", "_", words.get(unit, unit)).strip("_")


def translated_name(name, unit, monotonic):
    """The name that Prometheus gives a gauge, or a monotonic sum."""
    tokens = [token for token in re.split("[^a-zA-Z0-9:]", name) if token]
    main, _, per = unit.partition("/")
    suffix = word(main, MAIN)
    if suffix and suffix not in tokens:
        tokens.append(suffix)
    if word(per, PER) and f"per_{word(per, PER)}" not in tokens:
        tokens.append(f"per_{word(per, PER)}")
    last = "total" if monotonic else "ratio" if unit == "1" else ""
    if last:
        tokens = [token for token in tokens if token != last] + [last]
    text = "_".join(tokens)
    return f"_{text}" if text[0].isdigit() else text


def translated_label(name):
    text = re.sub("[^a-zA-Z0-9_]", "_", name)
    if text[0].isdigit():
        return f"key_{text}"
    return f"key{text}" if text[0] == "_" and not text.startswith("__") else text


@pytest.mark.parametrize(
    ("name", "unit", "monotonic", "expected"),
    [  # examples of the guide and of the specification
        ("http.server.duration", "s", False, "http_server_duration_seconds"),
        ("requests.count", "1", True, "requests_count_total"),
        ("memory.usage", "By", False, "memory_usage_bytes"),
        ("system.memory.utilization", "1", False, "system_memory_utilization_ratio"),
        ("system.network.dropped", "{packets}", False, "system_network_dropped"),
        ("(lambda).function.executions(#)", "", False, "lambda_function_executions"),
        ("system.network.io", "By/s", False, "system_network_io_bytes_per_second"),
        ("a.total.b", "", True, "a_b_total"),
    ],
)
def test_the_rules_as_written_here(name, unit, monotonic, expected):
    assert translated_name(name, unit, monotonic) == expected


def pushed(store):
    """Series that Prometheus has after an OTLP push: (name, labels) to value."""
    found = {}
    for request in Requests(store, {"service.name": "w2t"}).encode(NOW):
        message = ExportMetricsServiceRequest.FromString(bytes(request.body))
        for metric in message.resource_metrics[0].scope_metrics[0].metrics:
            monotonic = metric.WhichOneof("data") == "sum"
            assert Message(sum=metric.sum).sum.is_monotonic == monotonic
            name = translated_name(metric.name, metric.unit, monotonic)
            for point in (metric.sum if monotonic else metric.gauge).data_points:
                labels = {translated_label(a.key): a.value.string_value for a in point.attributes}
                assert len(labels) == len(point.attributes), "two labels become one"
                found[name, tuple(sorted(labels.items()))] = point.as_double
    return found


def scraped(store):
    """Series that Prometheus has after a scrape."""
    text = Page(store).render(NOW, openmetrics=True).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in strict(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def store():
    store = Store(history=60)
    fill(store, every(catalog.metrics()))
    return store


def test_every_metric_has_one_name_on_both_routes(store):
    by_scrape, by_push = scraped(store), pushed(store)
    assert {name for name, _ in by_scrape} == {name for name, _ in by_push}
    assert by_scrape == by_push  # labels and values too
    assert len(by_scrape) == len(catalog.metrics())
    assert {name for name, _ in by_scrape} == {m.prometheus for m in catalog.metrics()}


def test_the_strict_parser_takes_the_page(store):
    families = {f.name: f for f in strict(Page(store).render(NOW, openmetrics=True).decode())}
    assert len(families) == len({m.prometheus for m in catalog.metrics()})
    for metric in catalog.metrics():
        family = families[metric.prometheus.removesuffix("_total")]
        assert family.type == metric.instrument.value
        assert family.documentation == metric.help
        if family.unit:
            assert family.name.endswith(f"_{family.unit}")


def test_labels_are_legal_and_few():
    for metric in catalog.metrics():
        names = [translated_label(name) for name in metric.label_names]
        assert len(set(names)) == len(names) <= 15, metric.name
        for name in names:
            assert re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name), metric.name
            assert name not in ("le", "quantile") or metric.instrument is GAUGE, metric.name
            assert not name.startswith("__"), metric.name


def test_promtool_has_no_complaint(store):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    page = Page(store).render(NOW)
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
