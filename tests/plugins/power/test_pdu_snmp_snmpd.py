"""Against net-snmp's own agent: an independent implementation of v2c and of v3 with privacy."""

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.read.snmp.session import SnmpError
from tests.fakes.snmp import parse_oid
from tests.plugins.power.pdus import apc, poll, samples

SNMPD = shutil.which("snmpd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
USERS = {
    "sha": ("SHA", "AES", "SHA", "AES"),
    "md5des": ("MD5", "DES", "MD5", "DES"),
    "sha256": ("SHA-256", "AES", "SHA256", "AES"),
    "sha512": ("SHA-512", "AES256", "SHA512", "AES256"),
    "authonly": ("SHA-224", None, "SHA224", None),
}
OBJECTS = {oid: value for oid, value in apc().items() if not oid.startswith("1.3.6.1.2.1.1.")}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if SNMPD is None:
        pytest.skip("no snmpd: apt-get install snmpd")
    folder = tmp_path_factory.mktemp("snmpd")
    port = free_port()
    lines = [
        f"agentaddress udp:127.0.0.1:{port}",
        "rocommunity hush 127.0.0.1",
        "sysDescr APC AF1:v6.8.0 AN1:apc_hw05_rpdu2g_680.bin MN:AP8959 HR:02 SN: ZA1 MD:1",
        "sysObjectID .1.3.6.1.4.1.318.1.3.4.6",
    ]
    for name, (auth, priv, *_) in USERS.items():
        key = f' {priv} "private-{name}"' if priv else ""
        lines += [f'createUser {name} {auth} "secret-{name}"{key}']
        lines += [f"rouser {name} {'authpriv' if priv else 'auth'}"]
    for oid in sorted(OBJECTS, key=parse_oid):
        value = OBJECTS[oid]
        what = f"integer {value}" if isinstance(value, int) else f'octet_str "{value!s}"'
        lines.append(f"override .{oid} {what}")
    config = folder / "snmpd.conf"
    config.write_text("\n".join(lines) + "\n")
    log = (folder / "log").open("wb")
    agent = subprocess.Popen(
        [SNMPD, "-f", "-C", "-c", config, "-Lo", "-p", folder / "pid"],
        stdout=log,
        stderr=log,
        env={"SNMP_PERSISTENT_DIR": str(folder), "MIBS": "", "HOME": str(folder)},
    )
    target = f"127.0.0.1:{port}"
    try:
        for _ in range(100):
            if agent.poll() is not None:
                pytest.skip(f"snmpd does not run here: {Path(log.name).read_text()[-300:]}")
            try:
                poll(target, community="hush", timeout=0.5)
                break
            except TimeoutError:
                time.sleep(0.05)
        yield target
    finally:
        agent.terminate()
        agent.wait()
        log.close()


def v3(name: str) -> dict[str, Any]:
    _, _, auth, priv = USERS[name]
    config: dict[str, Any] = {"version": "3", "user": name}
    config |= {"auth_protocol": auth, "auth_password": f"secret-{name}"}
    return config | ({"priv_protocol": priv, "priv_password": f"private-{name}"} if priv else {})


@pytest.mark.parametrize("client", ["gufo", "pysnmp"])
@pytest.mark.parametrize("user", [None, *USERS])
def test_net_snmp(snmpd: str, user: str | None, client: str) -> None:
    config: dict[str, Any] = {"community": "hush"} if user is None else v3(user)
    if client == "pysnmp" and "priv_protocol" in config:
        pytest.importorskip("cryptography", reason="pysnmp encrypts by it")
    batch = poll(snmpd, times=2, client=client, **config)
    assert not batch.errors
    found = samples(batch)
    assert found["pdu.power", "pdu1", "measured"] == 1140
    assert found["pdu.energy", "pdu1"] == 100 * 3.6e6
    assert found["outlet.current", "pdu1", "3"] == 3
    assert found["pdu.info", "pdu1", "APC", "AP8959", "ZA1", "v6.8.0", "apc_rpdu2"] == 1


@pytest.mark.parametrize("client", ["gufo", "pysnmp"])
@pytest.mark.parametrize("key", ["user", "auth_password", "priv_password"])
def test_wrong_secrets_are_failures(snmpd: str, key: str, client: str) -> None:
    with pytest.raises((SnmpError, TimeoutError)):
        poll(snmpd, client=client, timeout=1.0, **{**v3("sha"), key: "wrong-secret"})


def test_pysnmp_without_cryptography_says_so(snmpd: str) -> None:
    if importlib.util.find_spec("cryptography"):
        pytest.skip("cryptography is installed")
    with pytest.raises(SnmpError, match="cryptography"):
        poll(snmpd, client="pysnmp", **v3("sha"))
