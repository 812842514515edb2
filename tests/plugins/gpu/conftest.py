"""The library that stands in for NVML."""

import pytest

from collector.plugin import load
from tests.fakes import nvml
from tests.fakes.nvml import Scenario


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_library(tmp_path_factory):
    return nvml.build(tmp_path_factory.mktemp("nvml-old"), old=True)


@pytest.fixture
def scenario(library, tmp_path, monkeypatch):
    """A scenario that children started in this test will follow; in force once written."""
    load("nvml")  # as the daemon has done before its loop runs
    scenario = Scenario(tmp_path / "scenario.conf")
    for name, value in nvml.environment(library, scenario.path).items():
        monkeypatch.setenv(name, value)
    return scenario
