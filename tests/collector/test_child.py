"""The child process: real ones, over the tests' NVML library, that hang, crash and vanish."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from collector.batch import Batch
from collector.child import Child, ChildError
from collector.entity import Kind
from collector.plugin import load
from collector.wire import LINE
from plugins.gpu.nvml import Nvml
from tests.fakes import nvml

HOST = Kind.HOST("node1")
AGES = 30.0  # seconds that nothing here takes; a test that waits so long has failed


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def scenario(library, tmp_path, monkeypatch):
    scenario = nvml.Scenario(tmp_path / "scenario.conf")
    scenario.gpu(0)
    scenario.write()
    load("nvml")  # as the daemon has done before its loop runs
    for name, value in nvml.environment(library, scenario.path).items():
        monkeypatch.setenv(name, value)
    return scenario


async def poll(child, timeout=AGES):
    batch = Batch(HOST, time.time(), Nvml.metrics)
    async with asyncio.timeout(timeout):
        await child.poll(batch)
    return batch


async def until(condition):
    async with asyncio.timeout(AGES):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


def pid_of(child) -> int:
    assert child._process is not None
    return int(child._process.pid)


def note(child) -> str:
    return os.pread(child._note, 256, 0).rstrip(b"\0").decode()


async def hung_poll(child, call):
    """Poll until the child is in that call, then give the poll up as the poller's timeout does."""
    task = asyncio.create_task(poll(child))
    await until(lambda: child._process is not None and note(child).startswith(call))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def exists(pid) -> bool:
    """Whether a process runs; one that is dead but not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_one_process_serves_all_polls(scenario):
    async def go():
        child = Child("nvml", {}, HOST)
        pids = set()
        for _ in range(3):
            batch = await poll(child)
            pids.add(pid_of(child))
            assert len(batch.keys) > 30
        await child.close()
        (pid,) = pids
        assert not await asyncio.to_thread(exists, pid)

    asyncio.run(go())


def test_a_hung_child_is_killed_and_a_new_one_takes_over(scenario):
    async def go():
        child, other = Child("nvml", {}, HOST), Child("nvml", {}, HOST)
        await poll(child)
        await poll(other)
        pid = pid_of(child)
        scenario.set("hang", "nvmlDeviceGetClockInfo")
        await asyncio.to_thread(scenario.write)
        await hung_poll(child, "nvmlDeviceGetClockInfo")
        assert child.end.startswith(f"child process {pid} hung since ")
        assert child.end.endswith(f"in nvmlDeviceGetClockInfo of {nvml.uuid(0)}: killed")
        await until(lambda: not exists(pid))
        scenario.set("hang", None)
        await asyncio.to_thread(scenario.write)
        assert {key.entity for key in (await poll(other)).keys} == {
            key.entity for key in (await poll(child)).keys
        }
        assert pid_of(child) != pid
        assert child.end == ""
        await child.close()
        await other.close()

    asyncio.run(go())


def test_what_a_child_logs_looks_as_what_the_daemon_does(scenario, capfd, monkeypatch):
    async def go():
        child = Child("nvml", {"slow_interval": 0.001}, HOST)
        await poll(child)
        scenario.remove(0)
        await asyncio.to_thread(scenario.write)
        await poll(child)
        await child.close()

    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    asyncio.run(go())
    assert capfd.readouterr().err.startswith(f"<4>{nvml.uuid(0)} is no longer among the GPUs")


def test_a_child_that_hangs_again_and_again_is_started_more_and_more_rarely(scenario):
    async def go():
        child = Child("nvml", {}, HOST)
        scenario.set("hang", "nvmlDeviceGetClockInfo")
        await asyncio.to_thread(scenario.write)
        for _ in range(2):
            await hung_poll(child, "nvmlDeviceGetClockInfo")
        with pytest.raises(ChildError, match=r"hung since .* killed \(starts again in \d+ s\)"):
            for _ in range(3):
                child._started = time.monotonic()
                await poll(child)
        await child.close()

    asyncio.run(go())


def test_others_go_on_beside_a_hung_one(scenario):
    scenario.gpu(1)

    async def go():
        hung, other = Child("nvml", {}, HOST), Child("nvml", {}, HOST)
        await poll(hung)
        await poll(other)
        scenario.set("hang", "nvmlDeviceGetClockInfo")
        await asyncio.to_thread(scenario.write)
        task = asyncio.create_task(poll(hung))
        await until(lambda: note(hung).startswith("nvmlDeviceGetClockInfo"))
        scenario.set("hang", "nothing else")
        # The hung one must stay so: stop it where it is.
        os.kill(pid_of(hung), signal.SIGSTOP)
        await asyncio.to_thread(scenario.write)
        for _ in range(3):
            assert len((await poll(other)).keys) > 60
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await other.close()
        await hung.close()

    asyncio.run(go())


class Immortal:
    """A process in the D state, as far as can be seen: signals do nothing, it does not end."""

    pid = 4194303
    returncode = None
    stdin = None

    def __init__(self):
        self.killed = 0

    def kill(self):
        self.killed += 1

    async def wait(self):
        await asyncio.Event().wait()

    class stdout:  # noqa: N801
        @staticmethod
        async def readuntil(separator):
            await asyncio.Event().wait()


def test_what_cannot_be_killed_is_left_and_no_other_is_started(scenario, monkeypatch):
    async def go():
        child = Child("nvml", {}, HOST, start_limit=0.0)
        process, started = Immortal(), []

        async def spawn():
            started.append(process)
            return process

        monkeypatch.setattr(child, "_spawn", spawn)
        task = asyncio.create_task(poll(child))
        await until(lambda: child._process is not None)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(2):
            with pytest.raises(
                ChildError,
                match=r"^driver unresponsive: process 4194303 hung since 20\d\d-.*Z in its start; "
                "it cannot be killed; abandoned$",
            ):
                await poll(child)
        assert len(started) == 1
        async with asyncio.timeout(AGES):
            await child.close(grace=0.1)
        assert process.killed >= 1

    asyncio.run(go())


PTRACE_SEIZE = 0x4206


def hold(pid, ready):
    """Attach to a process: when it is killed, its parent cannot reap it before we did."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ready.write(b"ok" if libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0 else b"no")
    ready.close()
    time.sleep(10 * AGES)


def test_a_real_process_that_cannot_be_reaped(scenario):
    """A tracer holds back the end of the killed child, as a driver would."""

    async def go():
        child = Child("nvml", {}, HOST)
        await poll(child)
        pid = pid_of(child)
        read, write = os.pipe()
        tracer = os.fork()
        if tracer == 0:
            try:
                hold(pid, os.fdopen(write, "wb"))
            finally:
                os._exit(0)
        os.close(write)
        try:
            if await asyncio.to_thread(os.read, read, 2) != b"ok":
                pytest.skip("the kernel does not let this process trace another")
            scenario.set("hang", f"nvmlDeviceGetMarginTemperature {nvml.uuid(0)}")
            await asyncio.to_thread(scenario.write)
            await hung_poll(child, "nvmlDeviceGetMarginTemperature")
            with pytest.raises(ChildError, match=f"process {pid} hung since .* cannot be killed"):
                await poll(child)
        finally:
            os.close(read)
            os.kill(tracer, signal.SIGKILL)
            os.waitpid(tracer, 0)
        scenario.set("hang", None)
        await asyncio.to_thread(scenario.write)
        assert len((await poll(child)).keys) > 30
        assert pid_of(child) != pid
        await child.close()

    asyncio.run(go())


def test_a_slow_start_outlives_the_polls_that_wait_for_it(scenario):
    async def go():
        scenario.set("hang", "nvmlInitWithFlags")
        await asyncio.to_thread(scenario.write)
        child = Child("nvml", {}, HOST)
        await hung_poll(child, "nvmlInit")
        pid = pid_of(child)
        await hung_poll(child, "nvmlInit")
        scenario.set("hang", None)
        await asyncio.to_thread(scenario.write)
        assert len((await poll(child)).keys) > 30
        assert pid_of(child) == pid
        await child.close()

    asyncio.run(go())


def test_a_start_that_never_ends_is_given_up(scenario):
    async def go():
        scenario.set("hang", "nvmlInitWithFlags")
        await asyncio.to_thread(scenario.write)
        child = Child("nvml", {}, HOST, start_limit=0.0)
        task = asyncio.create_task(poll(child))
        await until(lambda: child._process is not None and note(child) == "nvmlInit")
        pid = pid_of(child)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not exists(pid))
        await child.close()

    asyncio.run(go())


def test_a_crash_is_named_and_the_next_poll_starts_anew(scenario):
    async def go():
        child = Child("nvml", {}, HOST)
        await poll(child)
        pid = pid_of(child)
        scenario.set("crash", "nvmlDeviceGetClockInfo")
        await asyncio.to_thread(scenario.write)
        with pytest.raises(ChildError, match=f"child process {pid} was ended by SIGABRT"):
            await poll(child)
        scenario.set("crash", None)
        await asyncio.to_thread(scenario.write)
        assert len((await poll(child)).keys) > 30
        await child.close()

    asyncio.run(go())


def test_starts_that_fail_become_rarer(scenario):
    async def go():
        scenario.set("init_error", 9)
        await asyncio.to_thread(scenario.write)
        child = Child("nvml", {}, HOST)
        for _ in range(2):
            with pytest.raises(ChildError, match=r"driver is not loaded[^()]*$"):
                await poll(child)
        child._started = time.monotonic()
        with pytest.raises(ChildError, match=r"driver is not loaded.*\(starts again in \d s\)"):
            await poll(child)
        child._started -= 2.5
        scenario.set("init_error", None)
        await asyncio.to_thread(scenario.write)
        assert len((await poll(child)).keys) > 30
        assert child._ended_in_a_row == 0
        await child.close()

    asyncio.run(go())


def test_closing_a_hung_child_comes_back(scenario):
    async def go():
        child = Child("nvml", {}, HOST)
        await poll(child)
        pid = pid_of(child)
        scenario.set("hang", "nvmlDeviceGetClockInfo")
        await asyncio.to_thread(scenario.write)
        task = asyncio.create_task(poll(child))
        await until(lambda: note(child).startswith("nvmlDeviceGetClockInfo"))
        async with asyncio.timeout(AGES):
            await child.close(grace=0.2)
        assert not await asyncio.to_thread(exists, pid)
        with pytest.raises(ChildError):
            await task

    asyncio.run(go())


def test_a_child_that_was_never_started_closes():
    asyncio.run(Child("nvml", {}, HOST).close())


def test_interrupts_are_the_daemons_business(scenario):
    async def go():
        child = Child("nvml", {}, HOST)
        await poll(child)
        os.kill(pid_of(child), signal.SIGINT)
        assert len((await poll(child)).keys) > 30
        await child.close()

    asyncio.run(go())


@pytest.mark.parametrize("hang", [False, True])
def test_the_child_dies_with_its_parent(scenario, hang):
    script = textwrap.dedent("""
        import asyncio, time
        from collector.batch import Batch
        from collector.child import Child
        from collector.entity import Kind
        from plugins.gpu.nvml import Nvml

        async def go():
            host = Kind.HOST("node1")
            child = Child("nvml", {}, host)
            await child.poll(Batch(host, time.time(), Nvml.metrics))
            print(child._process.pid, flush=True)
            input()
            await child.poll(Batch(host, time.time(), Nvml.metrics))
        asyncio.run(go())
        """)
    path = os.pathsep.join(filter(None, sys.path))
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        pid = int(parent.stdout.readline())
        if hang:
            scenario.set("hang", "nvmlDeviceGetClockInfo")
            scenario.write()
            parent.stdin.write(b"\n")
            parent.stdin.flush()
        assert exists(pid)
        parent.kill()
    asyncio.run(until(lambda: not exists(pid)))


def answering(program):
    """A child that is no plugin but that Python program."""

    async def spawn():
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys\n" + textwrap.dedent(program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )

    return spawn


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("print('{}'); print('Hello', flush=True); sys.stdin.read()", "makes no sense"),
        (
            f"print('{{}}'); print('x' * {LINE + 1}, flush=True); sys.stdin.read()",
            "a line of more than",
        ),
        ("print('{}', flush=True); sys.exit(3)", "ended with status 3"),
        ("print('{')", "makes no sense"),
    ],
)
def test_a_child_that_answers_nonsense(monkeypatch, program, message):
    async def go():
        child = Child("nvml", {}, HOST)
        monkeypatch.setattr(child, "_spawn", answering(program))
        with pytest.raises(ChildError, match=message):
            await poll(child)
        await child.close()

    asyncio.run(go())


def test_what_a_library_prints_does_not_get_between(scenario, monkeypatch, tmp_path):
    """Standard output is the wire's; prints go to standard error."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading\n"
        "def noise():\n"
        "    import time\n"
        "    for _ in range(100):\n"
        "        if 'pynvml' in sys.modules: print('noise', flush=True)\n"
        "        time.sleep(0.005)\n"
        "threading.Thread(target=noise, daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    async def go():
        child = Child("nvml", {}, HOST)
        for _ in range(20):
            assert len((await poll(child)).keys) > 30
            await asyncio.sleep(0.005)
        await child.close()

    asyncio.run(go())


def test_an_unknown_field_of_the_config_is_named(scenario):
    async def go():
        child = Child("nvml", {"intervall": 1.0}, HOST)
        with pytest.raises(ChildError, match="intervall"):
            await poll(child)
        await child.close()

    asyncio.run(go())
