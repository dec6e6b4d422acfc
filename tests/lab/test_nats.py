"""Held-out nats of stored models are the mean cross-entropy of what they predict."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from bloomery.data.samples import samples
from bloomery.lab.nats import nats
from bloomery.nn.saving import load


def test_nats_are_those_of_each_next_token(lab):
    lab = lab(seeds=2)
    arm, tokens = lab.pretrain(), str(lab.world("python").tokens.folder)
    for run, found in zip(arm, lab.looked(nats, arm, tokens), strict=True):
        net, total, count = load(run.artifact.folder).eval(), 0.0, 0
        for ids in samples(tokens, "heldout", 48, net.cfg.context, run.artifact.folder, 0):
            row = torch.as_tensor(ids)
            with torch.no_grad():
                total += float(cross_entropy(net.logits(net(row[None]))[0, :-1], row[1:], reduction="sum"))
            count += len(ids) - 1
        assert count > 100 and found == pytest.approx(total / count, rel=1e-4)
