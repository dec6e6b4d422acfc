"""Fixtures that several folders of tests share."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent))  # for `nursery`

from nursery import Nursery

from bloomery.core import catalog, lineage
from bloomery.core.machine import Machine, has_bf16, processor, threads
from bloomery.core.store import Store

settings.register_profile("steady", deadline=None, derandomize=True)  # neither a busy machine nor chance decides a test
settings.load_profile("steady")


@pytest.fixture(scope="session")
def speeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stores have measured of single operations so far."""
    return tmp_path_factory.mktemp("speeds") / "speeds.json"


@pytest.fixture
def store(tmp_path: Path, speeds: Path) -> Iterator[Store]:
    """An empty store whose machine is already measured, so that no test waits for it; nor does one wait for what another has measured."""
    opened = Store(tmp_path / "store")
    machine = Machine(processor(), threads(), 8 << 30, has_bf16(), {"float32": 1e11, "bfloat16": 2e11})
    (opened.root / "machine.json").write_text(json.dumps(machine.facts()))
    own = opened.root / "speeds.json"
    if speeds.exists():
        shutil.copyfile(speeds, own)
    yield opened
    if own.exists():
        shutil.copyfile(own, speeds)


TOYS = {
    "seed": '''
        @dataclass(frozen=True)
        class Seed:
            """Write a number."""
            number: int = 1  # the number
            fail: str = ""  # an error to raise
            makes: ClassVar[str] = "corpus"
            def forecast(self, inputs, machine):
                return Forecast(seconds=1, memory=1, disk=100, facts={"documents": 3})
            def run(self, job):
                if self.fail == "disk":
                    raise OSError(28, "No space left on device")
                if self.fail == "bad":
                    from bloomery.core.errors import BadInput
                    raise BadInput("no documents are left; loosen keep")
                import os, signal
                if self.fail == "kill" and "TOY_CALM" not in os.environ:
                    (job.work / "begun").touch()
                    os.kill(os.getpid(), signal.SIGTERM)
                    import time
                    time.sleep(5)
                (job.out / "number").write_text(str(self.number))
                job.fact("documents", 3)
            def check(self, made, job):
                job.check("number", float((made / "number").read_text()), 100)
    ''',
    "double": '''
        @dataclass(frozen=True)
        class Double:
            """Twice an input."""
            of: Annotated[Artifact, "corpus"]
            extra: Annotated[Artifact | None, "corpus"] = None
            schedule: Schedule = "constant"
            makes: ClassVar[str] = "corpus"
            def forecast(self, inputs, machine):
                return Forecast(seconds=inputs["of"].facts.get("documents", 0), facts=inputs["of"].facts)
            def run(self, job):
                (job.out / "number").write_text(str(2 * int(self.of.path("number").read_text())))
            def check(self, made, job):
                job.check("even", int((made / "number").read_text()) % 2, 0)
    ''',
    "total": '''
        @dataclass(frozen=True)
        class Total:
            """The sum of artifacts that have names."""
            roles: Annotated[dict[str, Artifact] | None, "corpus"] = None
            makes: ClassVar[str] = "corpus"
            def forecast(self, inputs, machine):
                return Forecast(seconds=len(inputs))
            def run(self, job):
                told = {name: int(one.path("number").read_text()) for name, one in self.roles.items()}
                job.fact("roles", told)
                (job.out / "number").write_text(str(sum(told.values())))
            def check(self, made, job):
                job.check("roles", len(self.roles), 9)
    ''',
}
HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar
from bloomery.core.job import Forecast
if TYPE_CHECKING:
    from bloomery.core.store import Artifact
    from bloomery.seams import Schedule
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Small stages, `seed`, `double` and `total`, in the catalogue; call it to read their files again. Returns their folder."""
    folder = tmp_path / "toys"
    folder.mkdir()
    for name, body in TOYS.items():
        (folder / f"toy_{name}.py").write_text(HEAD + textwrap.dedent(body))
    monkeypatch.syspath_prepend(folder)
    real = catalog.entries

    def entries(seam: str) -> dict[str, catalog.Entry]:
        found = real(seam)
        if seam != "stage":
            return found
        return {**found, **{name: catalog.read_entry("stage", name, f"toy_{name}", folder / f"toy_{name}.py") for name in TOYS}}

    monkeypatch.setattr(catalog, "entries", entries)

    def reread() -> Path:
        lineage._read.cache_clear()
        return folder

    yield reread
    for name in TOYS:
        sys.modules.pop(f"toy_{name}", None)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Makes processes that a test may kill."""
    found = Nursery(tmp_path_factory.mktemp("nursery"))
    yield found
    found.close()


PATIENT = {  # of Ray's processes with each other, and workers that are as quick as other processes
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "10",
}


@pytest.fixture(scope="session")
def machines() -> Iterator[object]:
    """A Ray cluster of two workers with one processor each, beside a head that does no work; skipped without Ray."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -c constraints.txt 'bloomery[ray]'")
    import ray

    wrong: list[str] = []
    found = next((one for one in (_started(wrong) for _ in range(4)) if one), None)
    if found is None:
        pytest.skip(f"Ray's processes did not come up in {len(wrong)} tries, as where the machine is too busy; the last time: {wrong[-1]}")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="session")
def cluster(machines: object) -> str:
    """The address of its head."""
    return machines.address


@pytest.fixture(scope="session")
def client(machines: object) -> str:
    """The address for Ray's clients; skipped without what they need."""
    pytest.importorskip("grpc", reason="Ray's client needs grpcio: pip install -c constraints.txt 'bloomery[ray]'")
    return f"ray://127.0.0.1:{machines.client}"


def _ports(*more: str) -> dict[str, int]:
    """Of a node's agents, for which it otherwise waits for a quarter of a minute and no longer."""
    names = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port", *more)
    with ExitStack() as free:
        found = [free.enter_context(socket.create_server(("", 0))) for _ in names]
        return {name: one.getsockname()[1] for name, one in zip(names, found, strict=True)}


def _started(wrong: list[str]) -> object | None:
    """The cluster; None where Ray could not start it, as where it loses patience with a busy machine, and then why in `wrong`."""
    from ray.cluster_utils import Cluster

    os.environ |= PATIENT
    made = Cluster()
    try:
        head = _ports(*(["ray_client_server_port"] if find_spec("grpc") else []))
        made.client = head.get("ray_client_server_port")
        made.add_node(num_cpus=0, include_dashboard=False, object_store_memory=80 << 20, **head)
        for _ in range(2):
            made.add_node(num_cpus=1, object_store_memory=80 << 20, **_ports())
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        with suppress(Exception):
            made.shutdown()
        return None
    return made
