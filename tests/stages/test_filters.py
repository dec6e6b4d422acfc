"""The ready filter sets: each is a recipe that resolves, keeps prose, and drops what its rules are about."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import yaml

from bloomery.core import catalog
from bloomery.core.recipe import read
from bloomery.data.expression import parse_keep
from bloomery.data.measured import FAILED, Measured, columns_of
from bloomery.seams import Doc

FOLDER = Path(__file__).parents[2] / "recipes" / "filters"
STORY = [
    "The river had been low for most of the summer, and people came to look at the stones.",
    "Nobody in the village could say when it had last rained, but they all agreed that it was too long ago.",
    "An old woman sold bread from a cart near the bridge, which she had done for thirty years.",
    "When the storm finally came, it broke two windows of the school and filled every well.",
    "Children ran out into the street with their shoes in their hands, shouting to each other.",
    "That evening the lamps were lit early, and nobody slept until the thunder had gone beyond the hills.",
]
CHINESE = [
    "今年夏天河水一直很低，人们常到岸边看那些露出来的石头，孩子们则在浅水里捉小鱼。",
    "村里没有人说得清上一次下雨是什么时候，不过大家都同意，已经过去太久了，田里的庄稼都黄了。",
    "一位老奶奶在桥边推着小车卖馒头，三十年来天天如此，连过路的司机都认得她的声音。",
    "暴雨终于来临的那天，学校的两扇窗户被吹破，所有的水井都满了，街上的灯笼也掉了下来。",
    "孩子们提着鞋子跑到街上，互相叫喊，老师站在门口数着人数，直到每一个都回到家里。",
    "那天晚上灯点得很早，直到雷声翻过山头，谁也没有睡着，只听见屋檐滴水到天亮。",
]
PROSE = {"chinesewebtext": CHINESE}  # the others keep STORY
BAD = {
    "chinesewebtext": ["\n".join(CHINESE[:2]), "\n".join(STORY), "\n".join(CHINESE[:3] * 4), "\n".join("河水一直很低" for _ in range(50))],
    "gopher": ["\n".join(STORY[:1] * 30), "1 2 3 " * 40, "", "### " * 60],
    "c4": ["\n".join([*STORY, "Then { it is here."]), "Home\nAbout\nContact", "\n".join([*STORY, "So lorem ipsum is here."])],
    "fineweb": [
        "one\ntwo\nthree\nfour",
        "\n".join([STORY[0], *STORY]),
        "\n".join(f"- item number {k} of a long, long list" for k in range(9)),
    ],
    "data-juicer": ["short", "!" * 200, "abcdefgh " * 100],
    "redpajama": ["\n".join(STORY[:1] * 30), "1 2 3 " * 40, "", "lorem ipsum " + " ".join(STORY)],
}


def test_every_set_is_tested():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(BAD)


@pytest.mark.parametrize("name", BAD)
def test_a_set_keeps_prose_and_drops_what_it_is_about(name):
    step = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["steps"]["corpus"]
    signals = [(one, catalog.build_method("signal", one)) for one in step["signals"]]
    keep = parse_keep(step["keep"], dict.fromkeys((*chain(*columns_of(signals).values()), "document.bytes"), "number"))
    texts = ["\n".join(PROSE.get(name, STORY)), *BAD[name]]
    docs, columns = [Doc(str(k), text) for k, text in enumerate(texts)], {"document.bytes": [len(text) for text in texts]}
    for named in signals:
        found = Measured(*named).columns(docs, {}, None)
        assert found.pop(FAILED).null_count == len(docs)
        columns |= {column: values.to_numpy() for column, values in found.items()}
    failed = keep.failed(columns)
    assert failed[0] == -1, keep.clauses[failed[0]]
    assert all(clause >= 0 for clause in failed[1:]), failed


@pytest.mark.parametrize("name", BAD)
def test_a_recipe_may_extend_it(name, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {FOLDER / name}.yaml\nname: mine\nsteps:\n  corpus: {{sources: [a.jsonl], heldout: 0.1}}\n")
    step = read(mine).steps["corpus"]
    assert step.knobs["keep"] and step.knobs["sources"] == ["a.jsonl"] and step.knobs["heldout"] == 0.1
