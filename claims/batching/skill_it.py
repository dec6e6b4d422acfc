"""Claims about mixtures that follow what has been learned (Skill-It) on skills some of which are made of others."""

TOKENS = 180_000  # about where an even mixture has half learned the harder skills
EACH = 60  # problems of a skill that are asked
CLOSED = ("follow", "map")  # skills of so few questions that none is unseen


def accuracy(task):
    """Share of problems answered exactly, averaged over the skills; words to copy and to translate are drawn until training text does
    not ask for that, and `follow` and `map` have sixteen questions each, which are all known."""
    import pyarrow.parquet as pq

    import bloomery
    from bloomery.core.rng import python_rng
    from bloomery.data.worlds.skills import DOMAINS, World
    from bloomery.seams import Rng

    folder, corpus, key = task
    model, world = bloomery.load(folder), World()
    known = "\n".join(pq.read_table(f"{corpus}/train.parquet", columns=["text"])["text"].to_pylist())
    right = 0.0
    for domain in DOMAINS:
        draw, asked = python_rng(Rng((key, "asked", domain))), []
        while len(asked) < EACH:
            question, answer = world.problem(domain, draw)
            if domain in CLOSED or question not in known:
                asked.append((question, answer))
        said = model.generate([question for question, _ in asked], limit=8, stop=["\n"])
        right += sum(one.text == answer for one, (_, answer) in zip(said, asked, strict=True)) / EACH
    return right / len(DOMAINS)


def learns_skills_sooner(lab):
    """At equal tokens a mixture that follows held-out losses along the given prerequisite graph ends with more of the answers exact, mean
    over five skills, than an even mixture, and than the same rule without the graph; copy, translate and twice are asked of words that
    training text never asks them of, follow and map are recall (Chen et al. 2023: 36.5 points over random sampling on LEGO)."""
    from bloomery.data.worlds.skills import GRAPH

    common = {"world": "skills", "tokens": TOKENS, "evaluate_every": 12, "evaluate_tokens": 8192}
    common |= {"tune": {"rate": [3e-3, 1e-2]}, "by": "heldout_nats"}
    even = lab.pretrain(**common, batching="mixture")
    with_graph = lab.pretrain(**common, batching={"skill_it": {"graph": GRAPH, "eta": 1.0}})
    without = lab.pretrain(**common, batching={"skill_it": {"eta": 1.0}})
    corpus = str(lab.world("skills").corpus.folder)
    found = {
        name: lab.looked(accuracy, arm, corpus, lab.seeds[0]) for name, arm in (("even", even), ("graph", with_graph), ("alone", without))
    }
    return [
        lab.more("share answered exactly, mean over skills, against the even mixture", found["graph"], found["even"]),
        lab.more("share answered exactly, mean over skills, against the rule without the graph", found["graph"], found["alone"]),
    ]
