"""Claims about small floating-point numbers for weights and inputs."""


def floats_lose_no_more_than_whole_numbers(lab):
    """Inputs as 8-bit floats lose less than as 8-bit whole numbers, weights as 4-bit floats at most 0.01 nats more than
    4-bit whole numbers, and scales that are powers of two cost at most 0.03 nats (Wu et al. 2023: FP8
    beats INT8, above all from 1 billion parameters on)."""
    model = lab.pretrain(tune={"rate": lab.RATES})

    def nats(**knobs):
        return lab.compress(model, method={"zeroquant_fp": {"group": 64, **knobs}}, agreement=0.0).values("heldout_nats")

    plain = nats(inputs="fp8")
    return [
        lab.less(
            "held out, inputs fp8 against int8, weights int4",
            nats(weights="int4", inputs="fp8"),
            nats(weights="int4", inputs="int8"),
            unit="nats/token",
        ),
        lab.less(
            "held out, weights fp4 against int4, inputs fp8", plain, nats(weights="int4", inputs="fp8"), unit="nats/token", margin=-0.01
        ),
        lab.less("held out, scales powers of two against free", nats(scales="power"), plain, unit="nats/token", margin=-0.03),
        lab.less("held out, scales of one ratio against free", nats(scales="ratio"), plain, unit="nats/token", margin=-0.03),
    ]
