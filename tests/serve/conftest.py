"""A tiny model on disk and a server for it, shared by the tests of one file."""

from __future__ import annotations

import pytest
import torch

from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng

torch.set_num_threads(1)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('no such role') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{{ eos_token if m.role == 'assistant' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def write(folder, context: int = 128, template: str | None = TEMPLATE):
    """A random model of some variety, in the native format."""
    folder.mkdir()
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(folder)
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=context), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    save(net, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("serve") / "tiny")


@pytest.fixture(scope="session")
def written():
    """The function that writes such a model."""
    return write


@pytest.fixture(scope="session")
def model(folder):
    return load(folder)
