"""How long `bloomery --help` takes as a whole process: the fastest of ten, beside the half second that is promised.

python benchmarks/help.py [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

PROMISED = 0.5  # seconds


def seconds() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bloomery.cli.main", "--help"], check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    ours = min(seconds() for _ in range(3 if "--quick" in sys.argv else 10))
    figures = {"unit": "s", "ours": round(ours, 3), "peer": "promise", "peer_value": PROMISED, "ratio": round(PROMISED / ours, 2)}
    print(json.dumps({"contest": "bloomery --help", **figures}))
