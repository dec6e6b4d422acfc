"""Planted leaks: which ways of holding an evaluation item are found, by which rule, and how fast and in how much memory.

    python benchmarks/contamination.py [--quick] [--items 1000] [--seed 0] [--json]

Documents are those of the world `leaks`: each of the items stands once in every way (whole, with other case and punctuation, with every
tenth word changed, question or answer alone, with every third word changed), and three more for each item have phrases alone that
items have too. The rules are those of `bloomery decontaminate`, its runs of words without near copies (Tulu 3: runs of 8 words, half of
a part), and one run of 13 words anywhere (GPT-3). A pair of a document and an item is right where the world planted the one in the other.

--json: one line per contest, {"contest", "unit", "ours", "peer", "peer_value", "ratio"}; a ratio above 1 means that the default is ahead.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import defaultdict

import numpy as np

from bloomery.data.contamination import ExamItem, Rules, Search
from bloomery.data.worlds.leaks import LEAKS, World

DEFAULT = "decontaminate"
RULES = {DEFAULT: Rules(), "runs of 8, half": Rules(near=0.0), "one run of 13": Rules(words=13, share=1e-9, near=0.0)}
TOGETHER = 512  # documents in one go


def measured(rules: Rules, world: World) -> dict[str, float]:
    """Recall by way, precision, documents without an item that are flagged, MB/s and the megabytes that the search added."""
    docs = [world.document(i) for i in range(world.documents)]
    size = sum(len(doc.text.encode()) for doc in docs)
    search = Search([ExamItem("exam", str(k), *world.item(k)) for k in range(world.items)], rules)
    search.found([docs[0].text])
    before, begun, pairs = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), set()
    for start in range(0, len(docs), TOGETHER):
        pairs |= {(start + one.document, one.item) for one in search.found([doc.text for doc in docs[start : start + TOGETHER]])}
    seconds = time.process_time() - begun
    hits: dict[str, list[bool]] = defaultdict(list)
    for i, doc in enumerate(docs):
        number = doc.meta["item"]
        hits[doc.meta["domain"]].append((i, number) in pairs)
    flagged = {i for i, _ in pairs if docs[i].meta["domain"] == "phrases"}
    found = {way: float(np.mean(hits[way])) for way in (*LEAKS, "reworded")}
    found["precision"] = float(np.mean([docs[i].meta["item"] == item for i, item in pairs])) if pairs else float("nan")
    found["phrases flagged"] = len(flagged) / max(1, len(hits["phrases"]))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {**found, "MB/s of a processor": size / 1e6 / seconds, "MB more in memory": used * 1024 / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 items")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    items = 200 if given.quick else given.items
    world = World(documents=9 * items, items=items, seed=given.seed)
    found = {name: measured(rules, world) for name, rules in RULES.items()}
    if given.json:
        for peer in list(RULES)[1:]:
            for what, ours in found[DEFAULT].items():
                unit, value = "MB/s" if "MB/s" in what else "MB" if "MB" in what else "share", found[peer][what]
                less = "flagged" in what or what.startswith("MB more")
                ratio = (value / ours if ours else None) if less else (ours / value if value else None)
                line = {"contest": f"contamination: {what}", "unit": unit, "ours": ours, "peer": peer, "peer_value": value, "ratio": ratio}
                print(json.dumps(line))
        return
    print("".join(f"{name:>22}" for name in ("", *found)))
    for what in found[DEFAULT]:
        print(f"{what:>22}" + "".join(f"{one[what]:>22.3f}" for one in found.values()))


if __name__ == "__main__":
    main()
