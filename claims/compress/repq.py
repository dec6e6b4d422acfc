"""Claims about grids of few bits for weights and activations."""


def grids_by_channel_lose_less_than_one_for_all(lab):
    """With weights and activations of 4 bits, grids by channel after norms lose less than one grid for all channels of as many bits (Li et
    al. 2023: 4-bit ViT at a usable level; no figure)."""
    model = lab.pretrain(tune={"rate": lab.RATES})
    ours, plain = (lab.compress(model, method={"repq": {"apart": apart}}, agreement=0.0).values("heldout_nats") for apart in (True, False))
    return [lab.less("held out, by channel against one grid", ours, plain, unit="nats/token")]
