import json

import pytest
import torch

from bloomery.nn.attention import visible
from bloomery.nn.config import Config

SHAPE = {"vocab": 31, "width": 16, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 24, "context": 32}


def test_seven_numbers_are_a_llama_and_old_files_say_the_same(tmp_path):
    cfg = Config(*SHAPE.values())
    assert (cfg.architecture, cfg.norm, cfg.positions, cfg.activation, cfg.head_width) == ("llama", "rms", "rotary", "silu", 4)
    assert cfg.gated and cfg.tied and not (cfg.qkv_bias or cfg.out_bias or cfg.mlp_bias or cfg.qk_norm)
    (tmp_path / "model.json").write_text(json.dumps({**SHAPE, "rope_base": 10000.0, "norm_eps": 1e-5, "tied": True}))
    assert Config.read(tmp_path / "model.json") == cfg


def test_what_is_written_is_read(tmp_path):
    cfg = Config(**SHAPE, architecture="qwen3", qk_norm=True, head_width=6, tied=False)
    cfg.write(tmp_path / "model.json")
    assert Config.read(tmp_path / "model.json") == cfg
    assert (cfg.query_width, cfg.key_width) == (24, 12)


@pytest.mark.parametrize("causal", [True, False])
def test_of_attention_in_a_window_what_it_sees_is_counted(causal):
    """Against the mask itself; the difference is the diagonal, one key of each query, that the formula of whole rows leaves out too."""
    cfg, row = Config(**SHAPE, windows=(64, 0), causal=causal), 512
    counts = [int(visible(None, 0, row, torch.device("cpu"), window, causal).sum()) for window in (64, 0)]
    wanted = counts[0] / counts[1]
    assert cfg.seen(0, row) == pytest.approx(wanted, rel=0.02) and cfg.seen(1, row) == 1.0 and cfg.seen(0, 50) == 1.0
    whole = Config(**SHAPE, causal=causal)
    attention = 6.0 * cfg.query_width * row
    assert whole.flops_per_token(row) - cfg.flops_per_token(row) == pytest.approx(attention * (1 - cfg.seen(0, row)))


def test_shapes_that_are_none_are_refused():
    for changes, words in [
        ({"ffn": 0}, "ffn must be at least 1"), ({"width": 18}, "multiple of heads"), ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"head_width": 5}, "even for rotary positions"), ({"head_width": -2}, "negative"), ({"norm": "batch"}, "one of rms, layer"),
        ({"norm": "layer", "norm_offset": True}, "norm_offset goes with"),
        ({"positions": "none"}, "rotary, learned"), ({"activation": "swish"}, "activation must be one of"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Config(**{**SHAPE, **changes})
    assert Config(**SHAPE, head_width=5, positions="learned").query_width == 20


def test_what_few_models_have_is_written_only_where_one_has_it(tmp_path):
    Config(**SHAPE).write(tmp_path / "model.json")
    assert not {"causal", "modules"} & json.loads((tmp_path / "model.json").read_text()).keys()
    cfg = Config(**SHAPE, causal=False, modules=({"mix_ln": {"share": 0.5}},))
    cfg.write(tmp_path / "model.json")
    assert Config.read(tmp_path / "model.json") == cfg
