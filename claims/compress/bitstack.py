"""Claims about weights stored as stacks of one-bit blocks."""

STACK = {"bitstack": {"rank": 1, "blocks": 6}}
SVD = {"bitstack": {"rank": 1, "blocks": 4, "signs": False}}  # ranks 8, 16, ...: a block takes as many bytes as one of the stack
PLAIN, SEARCHED = (
    {f"2 bits, {what}": {"bits": 2, "group": group, "search": search} for what, group in (("whole rows", -1), ("groups of 64", 64))}
    for search in (0, 20)
)


def any_number_of_blocks_can_be_loaded(lab):
    """One stored stack is loaded to many budgets: every further level of blocks lowers the held-out loss, all six come within 0.02 nats per
    token of the model, and what is loaded to 2 bits is what compressing to 2 bits would have made (Wang et al. 2024: trade-offs by the
    megabyte, without compressing again)."""
    from itertools import pairwise

    from bloomery.nn.packed import read
    from bloomery.nn.saving import digest, load

    model = lab.pretrain(tune={"rate": lab.RATES})
    stack = lab.compress(model, method=STACK, agreement=0.0)
    small = lab.compress(model, method=STACK, agreement=0.0, budget="2 bits")
    walks = [run.facts["walk"] for run in stack]
    other = [
        digest(load(a.artifact.folder, budget=_bytes(read, b))) != b.facts["weights_sha256"] for a, b in zip(stack, small, strict=True)
    ]
    rises = [sum(after["nats"] >= before["nats"] for before, after in pairwise(walk)) for walk in walks]
    return [
        lab.near("levels of blocks after which the loss is no lower", rises, 0, margin=0, unit="levels"),
        lab.near("copies loaded to 2 bits that differ from those compressed to 2 bits", list(map(int, other)), 0, margin=0, unit="copies"),
        lab.less("held out, from one block to two", [w[1]["nats"] for w in walks], [w[0]["nats"] for w in walks], unit="nats/token"),
        lab.near(
            "held out, all six blocks against the model",
            [w[-1]["nats"] for w in walks],
            [run.facts["copy"]["source_nats"] for run in stack],
            margin=0.02,
            unit="nats/token",
        ),
    ]


def loses_less_than_rounding_and_truncated_svd_of_as_many_bytes(lab):
    """At one and a half to two and a half bits for each weight of the linears it loses less than truncated SVD of the same scaled weights,
    and at as many bytes as 2 bits with scales for rows or for groups of 64 take less than rounding to the nearest (Wang et al. 2024:
    matches or surpasses quantization, above all at extreme ratios)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    stack = lab.compress(model, method=STACK, agreement=0.0)
    svd = lab.compress(model, method=SVD, agreement=0.0)
    found = _against(lab, model, stack, PLAIN)
    for bits in (1.5, 2.0, 2.5):
        ours, theirs = ([_loaded(lab, m, run, bits=bits) for m, run in zip(model, arm, strict=True)] for arm in (stack, svd))
        found.append(lab.less(f"held out at {bits} bits, against truncated SVD", ours, theirs, unit="nats/token"))
    return found


def loses_less_than_rounding_with_searched_scales(lab):
    """At as many bytes as 2 bits with scales for rows or for groups of 64 take it loses less than rounding whose scales are searched for
    the least error, which the paper does not compare with (no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    return _against(lab, model, lab.compress(model, method=STACK, agreement=0.0), SEARCHED)


def _against(lab, model, stack, rounded):
    """The stack, loaded to as many bytes as rounded copies take, against each of them."""
    found, arms = [], {name: lab.compress(model, method={"rtn": knobs}, agreement=0.0) for name, knobs in rounded.items()}
    for name, arm in arms.items():
        sizes = arm.values("linear_bytes")
        ours = [_loaded(lab, m, run, size=size) for m, run, size in zip(model, stack, sizes, strict=True)]
        found.append(lab.less(f"held out, against rounding to {name}", ours, arm.values("heldout_nats"), unit="nats/token"))
    return found


def _bytes(read, run):
    """What the linears of a copy take."""
    return sum(one.bytes for one in read(run.artifact.folder).values())


def _loaded(lab, model, run, bits=0.0, size=0.0):
    """Held-out nats per token of a stack loaded to a size in bytes or bits, on the text that the stage compares copies on."""
    from bloomery.data.samples import to_compare
    from bloomery.infer.model import load
    from bloomery.infer.parity import parity
    from bloomery.nn.packed import read

    folder = run.artifact.folder
    weights = sum(one.shape[0] * one.shape[1] for one in read(folder).values())
    source, copy = load(model.artifact.folder), load(folder, budget=size or bits * weights / 8)
    text = to_compare(lab.world("python").tokens, source.net.cfg.context, model.artifact.folder, run.seed)
    return parity(source.logits, copy.logits, text.ids, text.counted).nats
