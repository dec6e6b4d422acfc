"""Claims about attention whose heads each read a part of the context: texts with names that only their beginning introduces, read with the
parts dealt out, with one part for all heads, and in full."""

NATS = "heldout_nats"
WORLD = {"documents": 1600, "shortest": 700, "longest": 1400}
SHORT = {"context": 256, "tokens": 250_000, "evaluate_every": 0}
PARTS = {"shards": 4, "block": 8, "window": 16, "whole": 1}


def parts_dealt_out_keep_what_one_part_for_all_loses(lab):
    """With the first layer whole and 4 shards in the others, held-out loss is no more than 0.05 nats per token above that of full
    attention, and below that of heads that all read one shard, at equal pairs of query and key (Lin et al. 2024: quality on par with
    dense attention at up to 25.3 times its speed)."""
    world = lab.world("lengths", **WORLD)
    full = lab.pretrain(world, tune={"rate": lab.RATES}, **SHORT)
    dealt = lab.pretrain(world, tune={"rate": lab.RATES}, modules=[{"s2": PARTS}], **SHORT)
    alike = lab.pretrain(world, tune={"rate": lab.RATES}, modules=[{"s2": {**PARTS, "alike": True}}], **SHORT)
    return [
        lab.less("held out, against heads that read one shard", dealt.values(NATS), alike.values(NATS), unit="nats/token"),
        lab.less("held out, against full attention", dealt.values(NATS), full.values(NATS), unit="nats/token", margin=-0.05),
    ]
