"""Neurons on disk: the numbers of the plain model, and what is read counted against the sets of active neurons."""

import json

import pytest
import torch
from paged import in_portions

from bloomery.core.errors import BadInput
from bloomery.infer.windowed import DATA, FORM, Windowed, write
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
IDS = torch.randint(0, 61, (1, 14), generator=torch.Generator().manual_seed(0))


def made(gated=False, **changes):
    shape = {"vocab": 61, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 40, "context": 32, "activation": "relu"}
    return Transformer(Config(**{**shape, "gated": gated, **changes}), Rng((1,))).eval()


@torch.inference_mode()
def decoded(net):
    """Hidden states of a prompt, then token after token."""
    return in_portions(net, IDS, [6] + [1] * 8)[0]


def active(net):
    """By layer and pass, the neurons that a pass uses."""
    found = [[] for _ in net.blocks]
    with torch.inference_mode():
        hooks = [
            block.mlp.register_forward_pre_hook(
                lambda m, args, layer=layer: found[layer].append(
                    set((m.up(args[0]).flatten(0, 1) > 0).any(0).nonzero()[:, 0].tolist())
                )
            )
            for layer, block in enumerate(net.blocks)
        ]  # fmt: skip
        decoded(net)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bundled", [False, True])
@pytest.mark.parametrize(("window", "room"), [(0, 0), (3, 0), (100, 7)])
def test_the_numbers_are_those_of_all_neurons_in_memory_and_are_given_back(tmp_path, gated, bundled, window, room):
    net = made(gated)
    wanted, weights = decoded(net), {name: t.clone() for name, t in net.state_dict().items()}
    write(net, tmp_path, bundled)
    with Windowed(net, tmp_path, window, room) as windowed:
        torch.testing.assert_close(decoded(net), wanted, rtol=1e-4, atol=1e-5)
        assert sum(p.numel() for name, p in net.named_parameters() if ".mlp." in name) == 0
        assert windowed.held <= 2 * (room or 40)
    assert all(t.equal(weights[name]) for name, t in net.state_dict().items())
    torch.testing.assert_close(decoded(net), wanted)


@pytest.mark.parametrize("window", [0, 1, 3])
def test_what_is_read_is_what_no_token_of_the_window_has_used(tmp_path, window):
    net = made()
    used, expected = active(net), 0
    for passes in used:
        for number, neurons in enumerate(passes):
            expected += len(neurons - set().union(*passes[max(0, number - window) : number]))
    write(net, tmp_path)
    with Windowed(net, tmp_path, window) as windowed:
        decoded(net)
        record = 2 * net.cfg.width * 4
        assert windowed.records.bytes == expected * record
        assert windowed.dense == 2 * 40 * record
        assert windowed.held == sum(len(set().union(*passes[-(window + 1) :])) for passes in used)


def test_a_window_and_records_that_lie_together_save_reads(tmp_path):
    net, counts = made(), {}
    for bundled in (True, False):
        write(net, tmp_path, bundled)
        for window in (0, 5):
            with Windowed(net, tmp_path, window) as windowed:
                decoded(net)
                counts[bundled, window] = windowed.records.reads, windowed.records.bytes
    assert [counts[False, window][0] for window in (0, 5)] == [2 * counts[True, window][0] for window in (0, 5)]
    assert counts[True, 5][1] < counts[True, 0][1] == counts[False, 0][1]


def test_a_low_rank_predictor_comes_nearer_with_its_rank_and_margin(tmp_path):
    net = made()
    wanted = decoded(net)
    write(net, tmp_path)

    def away(rank, margin):
        with Windowed(net, tmp_path, 5, rank=rank, margin=margin) as windowed:
            return float((decoded(net) - wanted).norm()), windowed.held

    (rough, few), (fine, _), (wide, many) = away(4, 0.0), away(14, 0.0), away(4, 1e9)
    assert fine < rough
    assert wide < 1e-3
    assert few < many == 80


def test_what_cannot_be_left_on_disk_is_refused(tmp_path):
    for wrong in (made(activation="silu"), made(mlp_bias=True)):
        with pytest.raises(BadInput, match="cannot be left on disk"):
            write(wrong, tmp_path)
    with pytest.raises(BadInput, match="float32 or float16"):
        write(made().bfloat16(), tmp_path)
    net = made()
    with pytest.raises(BadInput, match="write them first"):
        Windowed(net, tmp_path)
    write(net, tmp_path)
    with pytest.raises(BadInput, match="another model"):
        Windowed(made(layers=3), tmp_path)
    with pytest.raises(BadInput, match="not be negative"):
        Windowed(net, tmp_path, -1)
    with pytest.raises(BadInput, match="leave rank at 0"):
        Windowed(made(gated=True), tmp_path, rank=3)
    (tmp_path / DATA).write_bytes(b"123")
    with pytest.raises(BadInput, match="write them first"):
        Windowed(net, tmp_path)
    (tmp_path / FORM).write_text(json.dumps({"layers": 2}))
    with pytest.raises(BadInput, match="write them first"):
        Windowed(net, tmp_path)
