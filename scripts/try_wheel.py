"""Build the wheel and try it in an empty virtual environment: the catalogue without torch, then a corpus curated for real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".wheel"


def call(*arguments: str | Path) -> str:
    """The output of a command, which must succeed; it runs outside the source tree, so that only the wheel can be found."""
    done = subprocess.run([str(one) for one in arguments], cwd=PLACE, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    call(sys.executable, "-m", "build", "--wheel", "--outdir", PLACE, ROOT)
    (wheel,) = PLACE.glob("bloomery-*.whl")
    venv.create(PLACE / "empty", with_pip=True)
    python, bloomery = PLACE / "empty/bin/python", PLACE / "empty/bin/bloomery"
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wheel)
    assert "quickstart" not in call(bloomery, "--help")
    methods = [json.loads(line) for line in call(bloomery, "methods", "--json").splitlines()]
    assert {"optim", "signal", "task", "init"} <= {one["seam"] for one in methods}, methods
    claims = [json.loads(line) for line in call(bloomery, "prove", "--list", "--json", "--store", PLACE / "store").splitlines()]
    assert {"optim/galore", "compress/bitstack"} <= {one["claim"] for one in claims}, claims
    assert len(call(bloomery, "papers", "--json").splitlines()) == 448
    (PLACE / "recipe.yaml").write_text(
        "extends: filters/c4.yaml\nsteps:\n"
        '  corpus: {sources: [{from: "python://", size: 1MB}], signals: [length], keep: length.words >= 5}\n'
        "  page: {stage: report, of: [$corpus]}\n"
    )
    made = [json.loads(line) for line in call(bloomery, "run", "recipe.yaml", "--json", "--store", PLACE / "store").splitlines()]
    assert [one["kind"] for one in made] == ["corpus", "report"], made
    print(f"{wheel.name}: {len(methods)} methods; a corpus of {made[0]['documents']} documents curated in an empty environment")


if __name__ == "__main__":
    main()
