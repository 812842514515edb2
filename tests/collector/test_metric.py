from __future__ import annotations

import pytest

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Instrument, Metric, prometheus_label


@pytest.mark.parametrize(
    ("name", "instrument", "unit", "prometheus"),
    [
        ("gpu.power", GAUGE, "W", "w2t_gpu_power_watts"),
        ("gpu.energy", COUNTER, "J", "w2t_gpu_energy_joules_total"),
        ("gpu.memory.usage", GAUGE, "By", "w2t_gpu_memory_usage_bytes"),
        ("cpu.time", COUNTER, "s", "w2t_cpu_time_seconds_total"),
        ("gpu.utilization", GAUGE, "1", "w2t_gpu_utilization_ratio"),
        ("errors", COUNTER, "{error}", "w2t_errors_total"),
        ("engine.energy.per_token", GAUGE, "J/{token}", "w2t_engine_energy_per_token_joules"),
        ("net.rate", GAUGE, "By/s", "w2t_net_rate_bytes_per_second"),
        ("info", GAUGE, "", "w2t_info"),
        ("gpu.fan-speed", GAUGE, "{rpm}", "w2t_gpu_fan_speed"),
        ("age.seconds", GAUGE, "s", "w2t_age_seconds"),
    ],
)
def test_names(name: str, instrument: Instrument, unit: str, prometheus: str) -> None:
    metric = Metric(name, instrument, unit, Kind.GPU, "Help.")
    assert metric.otlp == f"w2t.{name}"
    assert metric.prometheus == prometheus


def test_labels_are_the_identity_then_the_metrics_own() -> None:
    metric = Metric("x", GAUGE, "", Kind.GPU, "Help.", ("domain",))
    assert metric.label_names == ("host.name", "hw.id", "hw.type", "domain")


def test_a_metric_is_itself_alone() -> None:
    one, other = (Metric("x", GAUGE, "", Kind.GPU, "Help.") for _ in range(2))
    assert one != other
    assert len({one, other}) == 2


def test_labels_for_prometheus() -> None:
    assert prometheus_label("gen_ai.request.model") == "gen_ai_request_model"
    assert prometheus_label("k8s.pod-uid") == "k8s_pod_uid"
