"""T5 against transformers: an encoder, a decoder that attends to it, and positions by distance."""

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.hf import from_hf, read_config, tensors, to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.relative import alibi, slopes
from bloomery.nn.saving import assemble, load, plain, save
from bloomery.nn.sites import sites
from bloomery.seams import Rng

torch.set_num_threads(1)
SIZES = {"vocab_size": 97, "d_model": 32, "d_kv": 6, "d_ff": 24, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
NEAR = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
MODELS = {"t5": {**SIZES, **NEAR}, "t5 1.1": {**SIZES, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}
SOURCE, TARGET = (torch.randint(0, 97, (3, n), generator=torch.Generator().manual_seed(n)) for n in (41, 30))


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def pair(request, tmp_path_factory):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("t5")
    theirs = T5ForConditionalGeneration(T5Config(**request.param)).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(0.0, 0.1).add_(0.0 if p.dim() > 1 else 0.5)
    theirs.save_pretrained(folder)
    cfg, state = from_hf(folder)
    return folder, theirs, assemble(cfg, state, torch.float32, folder)


def test_the_logits_are_those_of_transformers(pair, request):
    """With `-s` it prints the largest difference, the table of docs/models.md."""
    _, theirs, net = pair
    with torch.no_grad():
        want = theirs(input_ids=SOURCE, decoder_input_ids=TARGET).logits
        found = net.logits(net(TARGET, source_BT=SOURCE))
    apart = [float((logits.detach() - want).abs().max()) for logits in (found, net.logits(net(TARGET, source_BT=SOURCE)))]
    print(f"\n| {request.node.callspec.id} | {apart[0]:.1e} | {max(apart):.1e} | {want.std():.2f} |")
    assert want.std() > 0.04 and max(apart) < 1e-5


def test_padding_of_the_source_is_not_seen(pair):
    net = pair[2]
    documents = torch.tensor([[0] * 20 + [-1] * 21] * 3)
    with torch.no_grad():
        want = net(TARGET, source_BT=SOURCE[:, :20])
        torch.testing.assert_close(net(TARGET, source_BT=SOURCE, source_documents_BT=documents), want, rtol=1e-5, atol=1e-5)


def test_packed_pairs_give_the_gradients_of_each_alone(pair):
    net, found = pair[2].requires_grad_(True), []
    cuts = [(slice(0, 12), slice(0, 25)), (slice(12, 30), slice(25, 41))]
    target, source = torch.tensor([[0] * 12 + [1] * 18]), torch.tensor([[0] * 25 + [1] * 16])
    for passes in ([(TARGET[:1], SOURCE[:1], target, source)], [(TARGET[:1, t], SOURCE[:1, s], None, None) for t, s in cuts]):
        net.zero_grad()
        for tokens, text, documents, others in passes:
            net.logits(net(tokens, documents_BT=documents, source_BT=text, source_documents_BT=others)).square().sum().backward()
        found.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for name, grad in found[0].items():
        assert grad.norm() > 0 and (grad - found[1][name]).norm() < 1e-5 * grad.norm(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_is_bitwise(pair, tmp_path, dtype):
    from transformers import AutoModelForSeq2SeqLM

    folder, theirs, net = pair
    to_hf(assemble(net.cfg, from_hf(folder)[1], dtype, folder), None, tmp_path, dtype)
    one, other = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert one.keys() == other.keys() and all(other[name].equal(t.to(dtype)) for name, t in one.items())
    again, info = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and from_hf(tmp_path)[0] == net.cfg
    if dtype == torch.float32:
        with torch.inference_mode():
            assert again(input_ids=SOURCE, decoder_input_ids=TARGET).logits.equal(theirs(input_ids=SOURCE, decoder_input_ids=TARGET).logits)


def test_what_is_written_generates_as_it_did(pair, tmp_path):
    from transformers import T5ForConditionalGeneration

    _, theirs, net = pair
    to_hf(net, None, tmp_path)
    again = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert (again.config.decoder_start_token_id, again.config.pad_token_id) == (0, 0)
    start = {"max_new_tokens": 8, "do_sample": False}
    wanted = theirs.generate(SOURCE, decoder_start_token_id=0, pad_token_id=0, **start)
    assert torch.equal(again.generate(SOURCE, **start), wanted)
    with torch.no_grad():
        assert again(SOURCE, labels=TARGET).loss.isfinite()


def test_every_parameter_is_counted_saved_and_has_a_site(pair, tmp_path):
    net = pair[2]
    assert net.cfg.parameters() == sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in pair[1].parameters())
    owned = [p for site, module in sites(net) if site.kind in ("linear", "norm", "embed", "head") for p in module.parameters()]
    assert {id(p) for p in owned} == {id(p) for p in net.parameters()} and tensors(net.cfg).keys() == plain(net).keys()
    save(net, tmp_path)
    assert load(tmp_path).cfg == net.cfg


def test_what_is_not_done_is_refused_by_name(pair):
    net = pair[2]
    with pytest.raises(BadInput, match="an encoder is not decoded step by step yet"):
        net(TARGET, cache=object())
    with pytest.raises(ValueError, match="reads two texts"):
        net(TARGET)


def test_slopes_are_those_of_the_paper_and_sink_with_distance():
    assert slopes(8) == [2.0**-i for i in range(1, 9)]
    assert slopes(12)[8:] == [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    assert alibi(8, 5, torch.device("cpu"))[1, 4].tolist() == [-1.0, -0.75, -0.5, -0.25, 0.0]
    cfg = Config(vocab=31, width=16, layers=2, heads=4, kv_heads=2, ffn=24, context=32, positions="alibi")
    net, row = Transformer(cfg, Rng((1,))), torch.arange(20)[None]
    with torch.no_grad():
        whole = net(row)
    torch.testing.assert_close(net(row), whole, rtol=0, atol=1e-6)
    documents = torch.tensor([[0] * 8 + [1] * 12])
    torch.testing.assert_close(net(row, documents_BT=documents)[:, 8:], net(row[:, 8:]), rtol=0, atol=1e-6)
    with pytest.raises(BadInput, match="alibi positions is not decoded"):
        net(row, cache=object())


def test_an_activation_told_otherwise_a_second_time_is_refused(tmp_path):
    usual = {"architectures": ["T5ForConditionalGeneration"], **SIZES, "feed_forward_proj": "gated-gelu"}
    assert read_config({**usual, "dense_act_fn": "gelu_new", "is_gated_act": True}, tmp_path).activation == "gelu_tanh"
    for changes in ({"dense_act_fn": "silu"}, {"is_gated_act": False}, {"is_gated_act": None}):
        with pytest.raises(BadInput, match=f"{next(iter(changes))} .* is not supported"):
            read_config({**usual, "is_encoder_decoder": True, **changes}, tmp_path)
