"""What a comparison leaves behind: its JSON and its picture in the store, a record that keeps its trials, the winner as a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.core.files import write_json
from bloomery.core.recipe import parse
from bloomery.core.store import Store
from bloomery.draw.contests import Contender, contest
from bloomery.draw.page import standalone
from bloomery.lab.compare import Contest, Standing

LAST = {"pretrain": "lm", "compress": "small"}  # what the step is called in the winner's recipe


def publish(standing: Standing, store: Store) -> tuple[Path, Path, Path]:
    """Write the JSON, the picture and the winner's recipe into the store, and record the trials as a run, so that `gc` keeps them."""
    one, folder = standing.contest, store.root / "compare"
    folder.mkdir(exist_ok=True)
    told, picture, settings = (folder / f"{one.name}.{kind}" for kind in ("json", "svg", "yaml"))
    write_json(told, standing.told())
    picture.write_text(standalone(drawing(standing)), encoding="utf-8")
    write_winner(standing, settings)
    made = {f"{t.method}.{t.place + 1}": t.artifact for t in standing.trials if t.artifact}
    store.record_run(f"compare-{one.name}", standing.told(), made)
    return told, picture, settings


def drawing(standing: Standing) -> str:
    """The best trial of each method, in their order."""
    one = standing.contest
    rows = [Contender(row["method"], row["best"]["points"]) for row in standing.ranking if row["best"]["points"]]
    seconds = ", seconds of steps timed alone" if standing.paces else ""
    title = f"{one.seam} on {one.world}: best of {standing.rounds} trials each, held-out {one.target.unit}{seconds}"
    return contest(rows, title, one.target.unit, one.target.limit)


def winner(standing: Standing) -> dict[str, Any]:
    """The best trial of the best method as a recipe that stands alone."""
    one, best = standing.contest, standing.ranking[0]["best"]
    recipe = one.recipe(best["method"], best["trial"])
    steps = {LAST[one.stage] if name == "trial" else name: step for name, step in recipe["steps"].items()}
    equal = [row["method"] for row in standing.ranking[1:] if row["rank"] == 1]
    about = f"the winner of {', '.join(one.methods)} at {one.seam} ({one.target}), of {standing.rounds} trials each"
    about += f"; {', '.join(equal)} did exactly as well" if equal else ""
    return {"name": f"winner-{one.name}"[:80], "about": about, "seed": one.seed, "steps": steps}


def write_winner(standing: Standing, path: Path) -> None:
    """The winner's recipe as a file, read once before it is written."""
    import yaml

    recipe = winner(standing)
    parse(recipe, str(path))
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(f"# Run it with `bloomery run {path}`.\n{text}", encoding="utf-8")


def settled(one: Contest) -> str:
    """What is about to be done, in a line."""
    many = f"{one.each * len(one.methods)} trials ({one.each} each)"
    return f"{many} of {', '.join(one.methods)} at {one.seam}, world {one.world}, to {one.target}"
