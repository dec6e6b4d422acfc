"""bloomery's server and llama.cpp's under the same load from another process; and a soak that looks for leaks.

    python benchmarks/serve.py [--quick] [--clients 1,4,16,64] [--new 64] [--rounds 2] [--size 50M] [--peers llama_cpp] [--json]
    python benchmarks/serve.py --soak 10m

All servers run the same random Llama at the same time, each a process of its own with the same number of threads; one is asked at a
time, in turns whose order changes from round to round. Contenders: bloomery with its native engine in fp32, bloomery with llama.cpp as
its engine on the file exported from that model, and the server of llama-cpp-python (`make peers-serve`) on that same file, fp32 too.
Every client asks one streamed completion after the other, greedy, with a prompt of its own. Told are tokens a second of all clients
together, and for single answers the time to the first token, between tokens, and to the last, at the median and the 95th percentile.

--json: one line per contest, {"contest", "unit", "ours", "peer", "peer_value", "ratio"}; a ratio above 1 means bloomery is ahead.

--soak: 200 clients at once, most of them bad ones (benchmarks/crowd.py), wave after wave for so long, against one server process whose
memory, threads and open files are read from outside, and whose slots from its /metrics. Ends with 1 where anything is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
PEERS = Path(os.environ.get("PEERS", ".peers"))
SHAPES = {  # vocabulary, width, layers, heads, key heads, feedforward
    "50M": (16384, 512, 10, 8, 4, 1536), "5M": (4096, 192, 6, 6, 3, 512), "small": (280, 64, 2, 4, 2, 96),
}  # fmt: skip
TEXT = "some words and more of them stand here so that a prompt is as long as prompts are and every client has one of its own"


def write(root: Path, size: str) -> tuple[Path, Path]:
    """A random model in the native format, and the GGUF file exported from it."""
    import torch

    from bloomery.core.rng import torch_rng
    from bloomery.data.haystack import idle
    from bloomery.data.token_bytes import pieces
    from bloomery.data.tokenizer import learn
    from bloomery.infer.model import read_tokenizer
    from bloomery.nn import gguf
    from bloomery.nn.config import Config
    from bloomery.nn.gguf_words import read_words
    from bloomery.nn.model import Transformer
    from bloomery.nn.saving import save
    from bloomery.seams import Rng

    vocab, width, layers, heads, kv_heads, ffn = SHAPES[size]
    folder = root / "model"
    folder.mkdir()
    sentences = idle(Rng((0, "serve")))
    known = min(vocab, 420)
    learn([" ".join(next(sentences) for _ in range(300)) for _ in range(30)], known).save(folder)
    net = Transformer(Config(vocab, width, layers, heads, kv_heads, ffn, 1024))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0, 0.05, generator=torch_rng(Rng((1, *p.shape)))) if p.dim() > 1 else None
        said = pieces(read_tokenizer(folder))
        silent = [i for i in range(vocab) if i >= known or not said[i].isascii() or not said[i]]
        net.embed.weight[silent] = 0  # the head too: ids that stand for no text, or half a character, are never the likeliest
    save(net.eval(), folder)
    file = root / "model.gguf"
    gguf.write(file, net.cfg, gguf.contents(net, {}, "F32", "F32"), read_words(folder, vocab), "F32", "model")
    return folder, file


# ---- servers ------------------------------------------------------------------------------------------------------------


@contextmanager
def started(command: Sequence[str], port: int, log: Path, seconds: float = 300.0) -> Any:
    """A server process that answers at a port; gives (url, process)."""
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + seconds
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} does not answer:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield url, process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


def contenders(folder: Path, file: Path, peers: Sequence[str], slots: int, threads: int) -> dict[str, tuple[list[str], int]]:
    """Name -> command and port. A peer that is not there is named and left out."""
    ours = [sys.executable, "-m", "bloomery.cli.main", "serve"]
    more = ["--slots", str(slots), "--queue", "64", "--name", "model"]
    found: dict[str, tuple[list[str], int]] = {}
    for name, model, own in (("ours", folder, ["--no-exact"]), ("ours, llama.cpp as engine", file, [])):
        port = free_port()
        found[name] = ([*ours, str(model), "--port", str(port), *more, *own], port)
    for name in peers:
        python = PEERS / "serve" / "bin" / "python"
        if not python.exists():
            print(f"{name}: {python} is not there (make peers-serve), left out", file=sys.stderr)
            continue
        port = free_port()
        command = [
            str(python), "-m", "llama_cpp.server", "--model", str(file), "--model_alias", "model", "--port", str(port), "--n_ctx", "1024",
            "--n_threads", str(threads), "--n_threads_batch", str(threads), "--verbose", "false", "--interrupt_requests", "false",
        ]  # fmt: skip
        found[name] = (command, port)
    return found


# ---- load, in a process of its own ----------------------------------------------------------------------------------


async def one_answer(host: str, port: int, prompt: str, new: int) -> dict[str, float]:
    """Seconds to the first token, between tokens and to the last, and how many there were."""
    body = json.dumps({"model": "model", "prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection(host, port)
    try:
        began, times, reason = time.perf_counter(), [], ""
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"the server answers {status!r}")
        async for line in reader:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][0]
                reason = choice.get("finish_reason") or reason
                if choice.get("text"):
                    times.append(time.perf_counter())
        ended = time.perf_counter()
    finally:
        writer.close()
    if not times:
        raise SystemExit(f"an answer of {host}:{port} held no text and ended by {reason!r}")
    tokens = new if reason == "length" else len(times)  # some tokens are half a character and make no chunk
    return {"first": times[0] - began, "between": (times[-1] - times[0]) / max(1, tokens - 1), "whole": ended - began, "tokens": tokens}


async def load(url: str, clients: int, each: int, new: int, salt: int) -> dict[str, Any]:
    """`clients` clients, each asking `each` completions one after the other."""
    host, port = url.removeprefix("http://").split(":")
    found: list[dict[str, float]] = []
    words = TEXT.split()

    async def client(i: int) -> None:
        for k in range(each):
            prompt = " ".join(words[(salt + i * 7 + k * 3 + j * (1 + i % 5)) % len(words)] for j in range(48))
            found.append(await one_answer(host, int(port), prompt, new))

    began = time.perf_counter()
    await asyncio.gather(*(client(i) for i in range(clients)))
    return {"seconds": time.perf_counter() - began, "answers": found}


def loaded(url: str, clients: int, each: int, new: int, salt: int) -> dict[str, Any]:
    """The same from a process of its own."""
    command = [sys.executable, str(HERE), "--load", url, str(clients), str(each), str(new), str(salt)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the load on {url} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


# ---- the contest --------------------------------------------------------------------------------------------------------


def contest(given: argparse.Namespace, root: Path) -> Iterator[dict[str, Any]]:
    """All contenders at all numbers of clients, in turns; told as they are known."""
    folder, file = write(root, given.size)
    peers = [one for one in given.peers.split(",") if one]
    with ExitStack() as stack:
        urls = {}
        for name, (command, port) in contenders(folder, file, peers, min(given.slots, max(given.clients)), given.threads).items():
            log = root / f"{port}.log"
            urls[name] = stack.enter_context(started(command, port, log))[0]
            loaded(urls[name], 1, 1, given.new, 0)  # warms up
        for clients in given.clients:
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in urls}
            for turn in range(given.rounds):
                for name in sorted(urls, reverse=bool(turn % 2)):
                    runs[name].append(loaded(urls[name], clients, given.each, given.new, 1 + turn))
            yield from compared(clients, {name: figures(one) for name, one in runs.items()})


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of all rounds together; times in milliseconds."""
    answers = [one for run in runs for one in run["answers"]]
    found = {"tokens/s": sum(one["tokens"] for one in answers) / sum(run["seconds"] for run in runs)}
    for kind in ("first", "between", "whole"):
        times = sorted(1e3 * one[kind] for one in answers)
        found |= {f"{kind} p50": statistics.median(times), f"{kind} p95": times[min(len(times) - 1, int(0.95 * len(times)))]}
    return found


def compared(clients: int, found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """One line for each figure and each contender beside ours."""
    told = []
    for what, ours in found["ours"].items():
        unit = "tokens/s" if what == "tokens/s" else "ms"
        for peer in [name for name in found if name != "ours"] or [None]:
            line = {"contest": f"serve, {clients} clients, {what}", "unit": unit, "ours": round(ours, 2)}
            if peer is not None:
                theirs = found[peer][what]
                line |= {"peer": peer, "peer_value": round(theirs, 2), "ratio": round(ours / theirs if unit != "ms" else theirs / ours, 2)}
            told.append(line)
    return told


# ---- the soak -----------------------------------------------------------------------------------------------------------


def soak(seconds: float, root: Path) -> int:
    """Wave after wave of 200 clients; prints a line for each and what is left at the end."""
    sys.path.insert(0, str(HERE.parent))
    from crowd import Crowd, mixed

    folder, _ = write(root, "small")
    port = free_port()
    command = [
        sys.executable, "-m", "bloomery.cli.main", "serve", str(folder), "--port", str(port), "--slots", "8", "--name", "model",
    ]  # fmt: skip
    with started(command, port, root / "soak.log") as (url, process):
        crowd = Crowd(url, "model", patience=120)
        crowd.healthy(0)
        crowd.at_once(mixed(), first=1)
        calm(url)
        first = state(process.pid, url)
        print(json.dumps({"after": "one wave", **first}), flush=True)
        began, waves, most = time.monotonic(), 1, first["memory_mb"]
        while time.monotonic() - began < seconds:
            crowd.at_once(mixed(), first=1 + 200 * waves)
            waves += 1
            now = state(process.pid, url)
            most = max(most, now["memory_mb"])
            print(json.dumps({"wave": waves, "seconds": round(time.monotonic() - began), **now}), flush=True)
        left = calm(url)
        last = state(process.pid, url)
        lines = (root / "soak.log").read_text(errors="replace")
    grown = last["memory_mb"] - first["memory_mb"]
    waits = sorted(crowd.waits)
    told = {
        "soak_seconds": round(time.monotonic() - began), "waves": waves, "clients": 200 * waves, "treated wrongly": len(crowd.wrong),
        "healthy answered": len(crowd.right), "healthy wait p50 s": round(statistics.median(waits), 2),
        "healthy wait p95 s": round(waits[int(0.95 * (len(waits) - 1))], 2), "memory MB after one wave": first["memory_mb"],
        "most": most, "at the end": last["memory_mb"], "threads": [first["threads"], last["threads"]],
        "open files": [first["files"], last["files"]], "left in slots or line": left, "tracebacks": lines.count("Traceback"),
    }  # fmt: skip
    print(json.dumps(told))
    for one in crowd.wrong[:5]:
        print(one, file=sys.stderr)
    leaked = last["threads"] > first["threads"] or last["files"] > first["files"] or left or grown > 0.2 * first["memory_mb"]
    return int(bool(leaked or crowd.wrong or told["tracebacks"]))


def state(pid: int, url: str) -> dict[str, Any]:
    """Memory, threads and open files of a server from outside, and its load from its metrics."""
    import psutil

    process, load, files = psutil.Process(pid), gauges(url), []
    for _ in range(5):  # the connection that asked is closed a moment later
        time.sleep(0.1)
        files.append(process.num_fds())
    return {"memory_mb": round(process.memory_info().rss / 1e6, 1), "threads": process.num_threads(), "files": min(files), **load}


def gauges(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    names = ("bloomery_requests_active", "bloomery_requests_waiting", "bloomery_connections")
    return {name.removeprefix("bloomery_"): float(re.search(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)[1]) for name in names}


def calm(url: str, seconds: float = 60.0) -> float:
    """Waits until nothing is left but the connection that asks; gives what is."""
    deadline = time.monotonic() + seconds
    while True:
        load = gauges(url)
        left = load["requests_active"] + load["requests_waiting"] + load["connections"] - 1
        if left <= 0 or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


# ---- the command --------------------------------------------------------------------------------------------------------


def duration(text: str) -> float:
    """Seconds from 90, 90s or 10m."""
    found = re.fullmatch(r"(\d+)([sm]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no duration; say 90s or 10m")
    return float(found[1]) * (60 if found[2] == "m" else 1)


def main() -> int:
    if sys.argv[1:2] == ["--load"]:
        url, *numbers = sys.argv[2:]
        print(json.dumps(asyncio.run(load(url, *map(int, numbers)))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", default="llama_cpp")
    parser.add_argument("--clients", type=lambda text: [int(one) for one in text.split(",")], default=None)
    parser.add_argument("--each", type=int, default=2, help="completions that each client asks")
    parser.add_argument("--new", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--size", choices=list(SHAPES), default=None)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0)))
    parser.add_argument("--soak", type=duration)
    given = parser.parse_args()
    given.clients = given.clients or ([1, 4] if given.quick else [1, 4, 16, 64])
    given.new, given.size = given.new or (16 if given.quick else 64), given.size or ("5M" if given.quick else "50M")
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        if given.soak is not None:
            return soak(given.soak, Path(folder))
        for one in contest(given, Path(folder)):
            print(json.dumps(one) if given.json else "  ".join(f"{name} {value}" for name, value in one.items()), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
