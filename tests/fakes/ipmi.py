"""Executables in place of freeipmi's and ipmitool's."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from plugins.power import ipmi_dcmi

TEMPERATURE = "get_temp_reading"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Make these the only programs there are: `ipmitool="echo hello"`, `ipmi_dcmi="exit 1"`."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(ipmi_dcmi, "SBIN", "")


def saying(power: Path | None, temperature: Path | None = None) -> str:
    """Script that prints what was recorded, by the command that it is given."""
    cat = [
        f"/bin/cat {shlex.quote(str(path))}" if path else "exit 1" for path in (temperature, power)
    ]
    return f'case "$*" in *{TEMPERATURE}*) {cat[0]};; *) {cat[1]};; esac'


def replay(recorded: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install tools that say what `record` saved in a folder."""
    files = {path.name: path.absolute() for path in recorded.iterdir()}
    scripts = {
        tool: saying(files.get(f"{tool}.power"), files.get(f"{tool}.temperature"))
        for tool in {name.partition(".")[0] for name in files}
    }
    install(folder, monkeypatch, **scripts)
