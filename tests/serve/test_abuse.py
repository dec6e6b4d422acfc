"""Fifty clients at once, most of them bad ones; and the end of a server by signal."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import openai
import psutil
import pytest

from bloomery.serve.running import hosting

PROMPTS = ["some words", "def f(", "return", "x + 1", "more and more", "words"]
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


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


class Crowd:
    """Clients by their manners; each gets a number and the server's address."""

    def __init__(self, url: str) -> None:
        self.url, self.right, self.wrong = url, [], []
        self.place = ("127.0.0.1", int(url.rpartition(":")[2]))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=10)

    def ask(self, body: bytes, head: bytes = HEAD) -> bytes:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def healthy(self, i: int) -> None:
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="x", max_retries=20, timeout=20) as client:
            for k in range(2):
                prompt = PROMPTS[(i + k) % len(PROMPTS)]
                asked = {"model": "tiny", "prompt": prompt, "max_tokens": 30, "seed": i, "temperature": 0.9 if i % 2 else 0}
                if k:
                    text = "".join(one.choices[0].text for one in client.completions.create(**asked, stream=True))
                else:
                    text = client.completions.create(**asked).choices[0].text
                self.right.append((i, prompt, text))

    def dribbling(self, i: int) -> None:
        """A byte now and then: half of them never get beyond the headers, the others stay in the body."""
        whole = self.ask(b'{"prompt": "some words", "max_tokens": 3}')
        with self.connect() as line, suppress(ConnectionError):
            line.sendall(whole[: 30 if i % 2 else len(whole) - 30])
            for byte in whole[30:60]:
                time.sleep(0.05)
                line.sendall(bytes([byte]))
            self.wrong.append(i)  # was served all the while

    def malformed(self, i: int) -> None:
        broken = [self.ask(b'{"prompt": '), b"\x16\x03\x01 hello\r\n\r\n", self.ask(b"\x00" * 50), HEAD + b"Content-Length: -5\r\n\r\n"]
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nnonsense"
        with self.connect() as line, suppress(ConnectionError):
            line.sendall([*broken, chunked][i % 5])
            if b" 400 " not in line.recv(4096):
                self.wrong.append(i)

    def oversized(self, i: int) -> None:
        with self.connect() as line, suppress(ConnectionError):
            if i % 2:
                line.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
                for _ in range(64):
                    line.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            else:
                line.sendall(HEAD + b"Content-Length: 4000000\r\n\r\n" + b"a" * 4000000)
            if b" 413 " not in line.recv(4096):
                self.wrong.append(i)

    def leaving(self, i: int) -> None:
        """Asks for much, sees a little, and goes."""
        with self.connect() as line, suppress(ConnectionError):
            line.sendall(self.ask(b'{"prompt": "some", "max_tokens": 100, "temperature": 1.5, "stream": true, "n": %d}' % (1 + i % 3)))
            line.recv(200)

    def lost(self, i: int) -> None:
        paths = [b"GET /v1/nothing", b"DELETE /v1/models", b"GET /" + b"a" * 20000, b"POST /admin?key=1"]
        with self.connect() as line, suppress(ConnectionError):
            line.sendall(paths[i % 4] + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if line.recv(4096)[9:12] not in (b"404", b"405"):
                self.wrong.append(i)


MANNERS = (["healthy"] * 10) + (["dribbling"] * 8) + (["malformed"] * 10) + (["oversized"] * 6) + (["leaving"] * 10) + (["lost"] * 6)


def test_fifty_clients_of_all_manners(model, capfd):
    threads, open_before, process = threading.active_count(), sockets(), psutil.Process()
    options = {"slots": 4, "queue": 8, "head_seconds": 1.0, "body_seconds": 1.0, "body_bytes": 1 << 20}
    with hosting(model, **options) as host:
        crowd, faults = Crowd(host.url), []
        crowd.healthy(0)
        crowd.right.clear()
        memory = process.memory_info().rss

        def run(i: int, manner: str) -> None:
            try:
                getattr(crowd, manner)(i)
            except Exception as error:
                faults.append((i, manner, repr(error)))

        clients = [threading.Thread(target=run, args=(i, manner)) for i, manner in enumerate(MANNERS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(25)
        assert len(MANNERS) == 50 and not faults and not crowd.wrong
        engine = host.service.engine
        assert waited(lambda: not engine.active and not engine.waiting and not engine._rows and not host.server.server_state.tasks)
        assert waited(lambda: not host.server.server_state.connections)
        assert process.memory_info().rss - memory < 100e6
        crowd.healthy(0)
    assert waited(lambda: threading.active_count() == threads) and waited(lambda: sockets() == open_before)
    assert len(crowd.right) == 22
    for i, prompt, text in crowd.right:
        assert text == model.generate(prompt, 30, temperature=0.9 if i % 2 else 0, seed=i)[0].text
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("patient", [True, pytest.param(False, marks=pytest.mark.wide)])
def test_a_signal_lets_the_running_finish(folder, model, patient):
    """SIGTERM: the answer that is being written is completed, new requests get 503, the exit code is 0; or the deadline cuts it."""
    code = "import time, sys; from bloomery.infer import engine; real = engine.Engine._step; " \
        "engine.Engine._step = lambda self: (time.sleep(0.03), real(self)); from bloomery.cli.main import main; main()"  # fmt: skip
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", "0", "--drain", "20" if patient else "0.3"]
    environment = {**os.environ, "BLOOMERY_API_KEY": "s3cret", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        lines: list[str] = []
        while not any("curl" in one for one in lines):
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        url = re.search(r"http://[\d.:]+/v1", "".join(lines))[0]
        assert "serving tiny at" in lines[0] and "engine: bloomery, float32, 8 slots of 128 tokens" in lines[1] and "KEY" in lines[2]
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
        assert process.wait(20) == 0
        said = "".join(lines) + process.stdout.read()
        assert said.rstrip().endswith("stopped") and "s3cret" not in said and "/v1/completions 200" in said and "Traceback" not in said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_wrong_setups_are_one_sentence(folder):
    command = [sys.executable, "-m", "bloomery.cli.main", "serve", str(folder), "--host", "0.0.0.0"]
    environment = {name: value for name, value in os.environ.items() if name != "BLOOMERY_API_KEY"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.startswith("bloomery: 0.0.0.0 can be reached from other machines: give a key")
    assert done.stderr.count("\n") == 1
