"""Claims about mixtures that follow what has been learned (Skill-It) on skills some of which are made of others."""

TOKENS = 180_000  # about where an even mixture has half learned the harder skills
EACH = 60  # problems of a skill that are asked


def accuracy(task):
    """Share of held-out problems answered exactly, averaged over the skills."""
    import bloomery
    from bloomery.core.rng import python_rng
    from bloomery.data.worlds.skills import DOMAINS, World
    from bloomery.seams import Rng

    folder, seed = task
    model, world = bloomery.load(folder), World()
    right = 0.0
    for domain in DOMAINS:
        draw = python_rng(Rng((seed, "asked", domain)))
        asked = [world.problem(domain, draw) for _ in range(EACH)]
        said = model.generate([question for question, _ in asked], limit=8, stop=["\n"])
        right += sum(one.text == answer for one, (_, answer) in zip(said, asked, strict=True)) / EACH
    return right / len(DOMAINS)


def learns_skills_sooner(lab):
    """At equal tokens a mixture that follows losses along the prerequisite graph ends with more of the skills than an even mixture, and
    than the same rule without the graph (Chen et al. 2023: 36.5 points over random sampling on LEGO)."""
    from bloomery.data.worlds.skills import GRAPH

    common = {"world": "skills", "tokens": TOKENS, "evaluate_every": 12, "evaluate_tokens": 8192}
    common |= {"tune": {"rate": [3e-3, 1e-2]}, "by": "heldout_nats"}
    even = lab.pretrain(**common, batching="mixture")
    with_graph = lab.pretrain(**common, batching={"skill_it": {"graph": GRAPH, "eta": 1.0}})
    without = lab.pretrain(**common, batching={"skill_it": {"eta": 1.0}})
    found = {
        name: lab.each(accuracy, [(str(run.artifact.folder), run.seed) for run in arm])
        for name, arm in (("even", even), ("graph", with_graph), ("alone", without))
    }
    return [
        lab.more("share answered exactly, mean over skills, against the even mixture", found["graph"], found["even"]),
        lab.more("share answered exactly, mean over skills, against the rule without the graph", found["graph"], found["alone"]),
        lab.less(
            "held-out nats per token against the even mixture",
            with_graph.values("heldout_nats"),
            even.values("heldout_nats"),
            unit="nats/token",
        ),
    ]
