"""Two hundred clients at once, most of them bad ones; and the end of a server by signal."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import openai
import psutil
import pytest

from bloomery.cli.main import guarded
from bloomery.serve.running import hosting

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def crowds(monkeypatch):
    """The benchmark's clients."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import crowd

    yield crowd
    sys.modules.pop("crowd")


def sockets() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def waited(what, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(what())


def test_two_hundred_clients_of_all_manners_at_once(model, crowds, capfd):
    threads, open_before, process = threading.active_count(), sockets(), psutil.Process()
    options = {"slots": 4, "queue": 12, "connections": 150, "head_seconds": 1.0, "body_seconds": 1.0, "write_seconds": 1.0}
    with hosting(model, body_bytes=1 << 20, **options) as host:
        crowd, service = crowds.Crowd(host.url, "tiny", patience=100), host.service
        crowd.healthy(0)
        memory, handles = process.memory_info().rss, process.num_fds()
        manners = crowds.mixed()
        assert len(manners) == 200
        crowd.at_once(manners, first=1)
        assert not crowd.wrong and crowd.counts["healthy"] == 40
        engine = service.engine
        assert waited(lambda: not engine.active and not engine.waiting and not engine._running() and not host.server.server_state.tasks)
        assert waited(lambda: not host.server.server_state.connections and not service.inside)
        assert process.memory_info().rss - memory < 150e6
        assert waited(lambda: process.num_fds() <= handles + 2)
        crowd.healthy(0)
    assert waited(lambda: threading.active_count() == threads) and waited(lambda: sockets() == open_before)
    assert len(crowd.right) == 42
    for i, prompt, text in crowd.right:
        assert text == model.generate(prompt, 20, temperature=0.9 if i % 2 else 0, seed=i % 100)[0].text
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("patient", [True, pytest.param(False, marks=pytest.mark.wide)])
def test_a_signal_lets_the_running_finish(folder, model, patient):
    """SIGTERM: the answer that is being written is completed, new requests get 503, the exit code is 0; or the deadline cuts it."""
    code = "import time, sys; from bloomery.infer import batch; real = batch.Batch.step; " \
        "batch.Batch.step = lambda self: (time.sleep(0.03), real(self)); from bloomery.cli.main import main; main()"  # fmt: skip
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", "0", "--drain", "20" if patient else "0.3"]
    environment = {**os.environ, "BLOOMERY_API_KEY": "s3cret", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        lines: list[str] = []
        while not any("curl" in one for one in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        url = re.search(r"http://[\d.:]+/v1", "".join(lines))[0]
        assert "serving tiny at" in lines[0] and "KEY" in lines[2]
        assert "engine: native (no other engine reads this folder): float32, eager steps (" in lines[1]
        assert "8 slots of 128 tokens" in lines[1]
        with openai.OpenAI(base_url=url, api_key="s3cret", max_retries=0) as client:
            stream = iter(client.completions.create(model="tiny", prompt="some", max_tokens=60, temperature=0, stream=True))
            text = [next(stream).choices[0].text]
            process.send_signal(signal.SIGTERM)
            assert "stopping: 1 requests may finish" in process.stdout.readline()
            with pytest.raises(openai.InternalServerError, match="about to stop"):
                client.completions.create(model="tiny", prompt="x")
            if patient:
                text += [one.choices[0].text for one in stream]
                assert "".join(text) == model.generate("some", 60)[0].text
            else:
                with pytest.raises(openai.APIError, match="the server stops"):
                    list(stream)
        assert process.wait(120) == 0  # a bound for what hangs
        said = "".join(lines) + process.stdout.read()
        assert said.rstrip().endswith("stopped") and "s3cret" not in said and "/v1/completions 200" in said and "Traceback" not in said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_taken_address_is_told_before_a_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert guarded(["serve", "nowhere/at all/", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be bound" in capsys.readouterr().err


def test_wrong_setups_are_one_sentence(folder):
    command = [sys.executable, "-m", "bloomery.cli.main", "serve", str(folder), "--host", "0.0.0.0"]
    environment = {name: value for name, value in os.environ.items() if name != "BLOOMERY_API_KEY"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.startswith("bloomery: 0.0.0.0 can be reached from other machines: give a key")
    assert done.stderr.count("\n") == 1
