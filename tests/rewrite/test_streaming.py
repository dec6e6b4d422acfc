"""A model that is read, made smaller and written block by block: the same copy as in memory, in the room of two blocks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import loud
import pytest
import torch
from live import Live
from loud import model, texts

from bloomery.methods.compress.gptq import GPTQ
from bloomery.methods.compress.rtn import RTN
from bloomery.nn import hf, packed
from bloomery.nn.parts import Parts, digest
from bloomery.nn.saving import digest as digest_of_net
from bloomery.nn.saving import load, save
from bloomery.rewrite.compress import compress
from bloomery.rewrite.passing import hidden

torch.set_num_threads(1)
CFG = dataclasses.replace(loud.CFG, layers=3)
MIXED = dataclasses.replace(CFG, architecture="mixtral", experts=4, top=2)


BIASED = dataclasses.replace(CFG, tied=False, qkv_bias=True)


@pytest.mark.parametrize("cfg", [CFG, MIXED, BIASED], ids=["llama", "experts", "untied-biases"])
@pytest.mark.parametrize("method", [RTN(4, 16), GPTQ(4, 16)], ids=["rtn", "gptq"])
def test_the_folder_is_what_compressing_in_memory_would_have_written(tmp_path, cfg, method):
    (tmp_path / "source").mkdir(), (tmp_path / "whole").mkdir(), (tmp_path / "out").mkdir()
    net = model(cfg)
    save(net, tmp_path / "source")
    parts = Parts(tmp_path / "source", tmp_path / "work", torch.float16)
    streamed = compress(parts, method, texts(6, 24), skip=("blocks.1.*out",), rest=torch.float16)
    sha256 = parts.close(tmp_path / "out", streamed.skipped)
    whole = compress(net, method, texts(6, 24), skip=("blocks.1.*out",), rest=torch.float16)
    save(net, tmp_path / "whole", whole.skipped, torch.float16)
    assert streamed == whole and not any((tmp_path / "work").iterdir())
    assert sha256 == digest_of_net(net) == digest(tmp_path / "out") == digest_of_net(load(tmp_path / "out"))
    for name in ("model.json", "quantization.json"):
        ours, theirs = ((tmp_path / where / name).read_text() for where in ("out", "whole"))
        assert sorted(ours) == sorted(theirs)
    assert packed.skipped(tmp_path / "out") == packed.skipped(tmp_path / "whole")
    sizes = [(tmp_path / where / "model.safetensors").stat().st_size for where in ("out", "whole")]
    assert abs(sizes[0] - sizes[1]) < 64, "the header alone may be padded otherwise"


def test_a_folder_of_hugging_face_is_read_part_by_part(tmp_path):
    net = model(CFG)
    hf.to_hf(net, None, tmp_path, shard=20_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert digest(tmp_path) == digest_of_net(net)
    found = hidden(Parts(tmp_path), texts(6, 24))
    with torch.no_grad():
        assert all(one.equal(net(ids[None])[0]) for one, ids in zip(found, texts(6, 24), strict=True))


def peak(folder: Path, work: Path, method, sequences) -> int:
    parts = Parts(folder, work, torch.float16)
    with Live() as live:
        compress(parts, method, sequences, rest=torch.float16)
    return live.peak


def test_the_peak_is_two_blocks_and_the_activations_however_many_layers_there_are(tmp_path):
    peaks, sequences = {}, texts(2, 16, 16)
    wide = dataclasses.replace(CFG, width=96, ffn=256, heads=4, kv_heads=4)
    for layers in (2, 9):
        net = model(dataclasses.replace(wide, layers=layers))
        folder = tmp_path / str(layers)
        folder.mkdir()
        save(net, folder)
        block = sum(p.nbytes for p in net.blocks[0].parameters())
        opening = net.embed.weight.nbytes
        whole = sum(p.nbytes for p in net.parameters())
        del net
        peaks[layers] = peak(folder, tmp_path / f"work{layers}", RTN(4, 32), sequences)
    activations = 4 * 32 * (2 * 96 + 4 * 256) * 2  # tokens x what a block computes at once, fp32
    assert peaks[9] <= 2 * block + opening + activations < whole / 3
    assert peaks[9] <= 1.05 * peaks[2], "more layers take no more room"


def test_bfloat16_passes_need_a_copy_of_a_block_and_half_the_activations(tmp_path):
    sequences = texts(40, 24)
    save(model(CFG), tmp_path)
    fp32, bf16 = (Live(), Live())
    outcomes = []
    for live, precision in ((fp32, torch.float32), (bf16, torch.bfloat16)):
        parts = Parts(tmp_path, tmp_path / str(precision), torch.float16)
        with live:
            outcomes.append(compress(parts, RTN(4, 16), sequences, rest=torch.float16, precision=precision))
    assert bf16.peak < 0.8 * fp32.peak
    exact, rough = ([layer.error for layer in one.layers] for one in outcomes)
    assert rough == pytest.approx(exact, rel=0.1) and rough != exact
