"""Keys, names, full lines and hang-ups."""

import socket
import threading
import time
from contextlib import suppress

import openai
import pytest

from bloomery.core.errors import BadInput
from bloomery.serve.gate import Gate, line, local
from bloomery.serve.options import Options
from bloomery.serve.running import hosting, running


def waited(what, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(what())


def slow(model, monkeypatch, seconds: float = 0.02) -> None:
    """Every step of the model takes this long, so that a test can look at it."""
    real = model.net.logits
    monkeypatch.setattr(model.net, "logits", lambda hidden: (time.sleep(seconds), real(hidden))[1])


def raw(url: str, text: bytes) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(text)
    return connection


def answer(connection: socket.socket) -> bytes:
    """One whole answer with a known length."""
    got = connection.recv(65536)
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < int(got.lower().partition(b"content-length: ")[2].split()[0]):
        more = connection.recv(65536)
        assert more, got
        got += more
    return got


def posted(body: bytes, path: str = "/v1/completions", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


LONG = b'{"prompt": "some", "max_tokens": 120, "temperature": 0, "stop": ["never this"]}'


def test_a_key_is_needed_and_never_written(model, capfd):
    lines = []
    with running(model, key="s3cret", log=lines.append) as url:
        for key in ("s3cre", "s3cret2", "S3CRET"):
            client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
            with client, pytest.raises(openai.AuthenticationError) as wrong:
                client.models.list()
            assert wrong.value.code == "invalid_api_key" and wrong.value.response.headers["www-authenticate"] == "Bearer"
        with openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret", max_retries=0) as client:
            assert client.completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1
        for path in (b"/health", b"/ready"):
            with raw(url, b"GET " + path + b"?key=s3cret HTTP/1.1\r\nHost: example.org\r\n\r\n") as open_to_all:
                assert b" 200 " in answer(open_to_all)
        with raw(url, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") as numbers:
            assert b" 401 " in answer(numbers)
        with raw(url, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic s3cret\r\n\r\n") as other:
            assert b" 401 " in answer(other)
    told = "\n".join(lines) + "".join(capfd.readouterr())
    assert "s3cret" not in told and " 401 " in told and "/v1/completions 200" in told


def test_beyond_loopback_a_key_is_needed():
    with pytest.raises(BadInput, match="can be reached from other machines: give a key"):
        Options(host="0.0.0.0")
    assert Options(host="0.0.0.0", key="k").key and Options(host="::1").host and Options(host="localhost").host


def test_without_a_key_only_loopbacks_own_names_are_answered(model):
    assert local("127.0.0.1:80") and local("[::1]:80") and local("LOCALHOST") and not local("example.org:80") and not local("10.0.0.1")
    with running(model) as url, raw(url, b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n") as led_here:
        assert b" 403 " in answer(led_here)


def test_a_log_line_stays_one_line():
    scope = {"path": "/v1/x\r\n2026 forged" + "y" * 500, "method": "GET", "client": ("1.2.3.4", 5), "query_string": b"key=abc"}
    assert "\n" not in line(scope, 200, 0.1) and "abc" not in line(scope, 200, 0.1) and len(line(scope, 200, 0.1)) < 220


def test_a_taken_port_is_said(model):
    with running(model) as url, pytest.raises(BadInput, match="cannot be bound"), running(model, port=int(url.rpartition(":")[2])):
        pass


def test_a_full_line_says_when_to_come_back(model, monkeypatch):
    slow(model, monkeypatch)
    with hosting(model, slots=1, queue=1) as host, openai.OpenAI(base_url=f"{host.url}/v1", api_key="x", max_retries=0) as client:
        engine = host.service.engine
        with raw(host.url, posted(LONG)), raw(host.url, posted(LONG)):
            assert waited(lambda: engine.active == 1 and engine.waiting == 1)
            time.sleep(0.1)
            with pytest.raises(openai.RateLimitError, match="try again later") as full:
                client.completions.create(model="tiny", prompt="x")
            assert full.value.code == "rate_limit_exceeded" and 1 <= int(full.value.response.headers["retry-after"]) <= 10
        assert waited(lambda: not engine.active and not engine.waiting)  # both hung up
        assert client.completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_up_frees_the_slot(model, monkeypatch, stream):
    slow(model, monkeypatch)
    body = LONG[:-1] + b', "stream": true}' if stream else LONG
    with hosting(model, slots=2) as host:
        engine = host.service.engine
        connection = raw(host.url, posted(body))
        if stream:
            assert b"200" in connection.recv(1024)
        assert waited(lambda: engine.active == 1)
        connection.close()
        began = time.monotonic()
        assert waited(lambda: engine.active == 0) and time.monotonic() - began < 1.0  # all of it would take 2.4 s
        assert waited(lambda: not host.server.server_state.tasks)


def test_a_hang_up_behind_a_second_request_is_seen(model, monkeypatch):
    slow(model, monkeypatch)
    with hosting(model) as host:
        connection = raw(host.url, posted(LONG))
        assert waited(lambda: host.service.engine.active == 1)
        connection.sendall(posted(LONG))
        time.sleep(0.1)
        connection.close()
        assert waited(lambda: host.service.engine.active == 0, 1.0)


def test_a_body_that_breaks_off_while_it_is_refused_is_no_error_of_ours(model, capfd):
    """The head may not enter, and the chunk after it is nonsense: one answer, no traceback."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with hosting(model, key="s3cret") as host:
        for _ in range(20):
            with raw(host.url, head + b"ZZ\r\nnonsense") as line:
                assert answer(line)[9:12] in (b"400", b"401")
        assert waited(lambda: not host.server.server_state.tasks)
    assert "Traceback" not in capfd.readouterr().err


def test_too_many_connections_are_told_and_then_cut(model):
    with hosting(model, connections=3) as host:
        idle = [raw(host.url, b"") for _ in range(3)]
        assert waited(lambda: len(host.server.server_state.connections) == 3)
        with raw(host.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as one_more:
            said = answer(one_more).lower()
            assert b" 503 " in said and b"retry-after: 5" in said and b"overloaded" in said
        many = [raw(host.url, b"") for _ in range(80)]
        assert waited(lambda: len(host.server.server_state.connections) == 3 + 64)
        for connection in idle + many:
            connection.close()
        assert waited(lambda: not host.server.server_state.connections)


def test_slow_clients_are_cut_off(model):
    with hosting(model, head_seconds=0.3, body_seconds=0.3, keep_seconds=1) as host:
        began = time.monotonic()
        silent, half = raw(host.url, b""), raw(host.url, b"POST /v1/completions HTTP/1.1\r\nHost: loc")
        stuck = raw(host.url, posted(LONG)[:-5])
        assert b" 408 " in answer(stuck) and stuck.recv(4096) == b""
        for one in (silent, half):
            one.settimeout(3)
            with suppress(ConnectionResetError):
                assert one.recv(100) == b""
        idle = raw(host.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in answer(idle)
        idle.sendall(b"GET /hea")  # a second request that never ends
        assert waited(lambda: not host.server.server_state.connections) and time.monotonic() - began < 3
        for one in (silent, half, stuck, idle):
            one.close()


def test_a_client_that_does_not_read_is_cut_off(model):
    body = b'{"prompt": "some words", "max_tokens": 0, "n": 30, "echo": true, "logprobs": 20}'
    with hosting(model, write_seconds=0.3) as host:
        host.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(host.url.rpartition(":")[2])))
        connection.sendall(posted(body) * 3)  # the answers are far more than buffers hold
        assert waited(lambda: host.server.server_state.tasks)
        assert waited(lambda: not host.server.server_state.connections and not host.service.engine.active)
        connection.close()


def test_stopping_tells_those_who_wait(model, monkeypatch):
    slow(model, monkeypatch)
    answers = []
    with hosting(model, slots=1) as host:
        connections = [raw(host.url, posted(LONG)) for _ in range(2)]
        assert waited(lambda: host.service.engine.active == 1 and host.service.engine.waiting == 1)
        threads = [threading.Thread(target=lambda c=c: answers.append(answer(c))) for c in connections]
        [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(answers) == 2 and all(b" 503 " in one and b"the server stops" in one for one in answers)
    [connection.close() for connection in connections]


def test_draining_refuses_new_requests(model):
    with hosting(model) as host:
        host.service.draining = True
        client = openai.OpenAI(base_url=f"{host.url}/v1", api_key="x", max_retries=0)
        with client, pytest.raises(openai.InternalServerError, match="about to stop") as wrong:
            client.completions.create(model="tiny", prompt="x")
        assert wrong.value.status_code == 503 and wrong.value.response.headers["retry-after"]
        for path, status in ((b"/ready", b" 503 "), (b"/health", b" 200 "), (b"/metrics", b" 200 ")):  # it lives, and takes nothing new
            with raw(host.url, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") as told:
                assert status in answer(told)


def test_gates_compare_whole_keys():
    gate = Gate(None, None, "key", lambda: False, None)
    assert gate.knows(b"Bearer key") and gate.knows(b"bearer  key ")
    assert not any(gate.knows(header) for header in (b"", b"Bearer", b"Bearer ke", b"Bearer keys", b"key", b"Token key"))
