import gc
import subprocess
import sys
import weakref

import torch
from torch import nn

from bloomery.infer.straight import Straight

torch.set_num_threads(1)


class Adds(nn.Module):
    """Keeps what it is given in a memory, and multiplies."""

    def __init__(self, end=lambda x, y: y):
        super().__init__()
        self.weight, self.end = nn.Parameter(torch.tensor([2.0, 3.0]), requires_grad=False), end

    def forward(self, memory, table_BN, x_B):
        memory.add_(x_B.sum())
        return self.end(x_B, (x_B * self.weight + memory) * table_BN.sum(1) * table_BN.shape[1])


def learned(module, numbers=(2, 4)):
    memory = torch.zeros(2)
    straight = Straight(module, "aot_eager", 1, {}, lambda guards: [not guard.name for guard in guards])
    with torch.no_grad():
        for number in numbers:
            table = torch.ones(2, number)
            torch._dynamo.mark_dynamic(table, 1)
            straight.learn("two", number, memory, table, torch.zeros(2))
    return straight, memory


def test_a_learned_call_is_the_module_without_the_compilers_front(monkeypatch):
    straight, memory = learned(Adds())
    monkeypatch.setattr(straight, "front", None)
    with torch.no_grad():
        for number in (3, 4, 9):
            before, x = memory.clone(), torch.tensor([1.0, float(number)])
            table = torch.randn(2, number)
            found = straight("two", number, memory, table, x)
            torch.testing.assert_close(memory, before + x.sum())
            torch.testing.assert_close(found, (x * torch.tensor([2.0, 3.0]) + memory) * table.sum(1) * number)


def test_what_was_not_learned_goes_through_the_front():
    straight, memory = learned(Adds())
    with torch.no_grad():
        table, x = torch.ones(2, 4), torch.ones(2)
        torch.testing.assert_close(straight("other", 4, memory, table, x), (x * torch.tensor([2.0, 3.0]) + memory) * 16)
    assert set(straight.calls) == {"two"}


def test_a_call_keeps_no_arguments_of_the_moment():
    straight, memory = learned(Adds())
    before = [id(one) for one in straight.calls["two"].arguments]
    with torch.no_grad():
        straight("two", 9, memory, torch.ones(2, 9), torch.ones(2))
    assert [id(one) for one in straight.calls["two"].arguments] == before


def test_what_the_front_makes_of_an_output_itself_is_left_to_it():
    straight, memory = learned(Adds(lambda x, y: [y]))
    assert not straight.calls
    with torch.no_grad():
        assert len(straight("two", 4, memory, torch.ones(2, 4), torch.ones(2))) == 1


def test_a_number_that_is_not_the_free_size_is_not_learned():
    straight, memory = learned(Adds(), ())
    table = torch.ones(2, 4)
    torch._dynamo.mark_dynamic(table, 1)
    straight.learn("odd", 7, memory, table, torch.ones(2))
    assert not straight.calls


def test_what_was_learned_goes_with_its_owner():
    straight, memory = learned(Adds())
    straight("other", 4, memory, torch.ones(2, 4), torch.ones(2))  # through the front, which remembers too
    straight.settle()
    held = [weakref.ref(one) for one in (memory, straight.module.weight, straight.calls["two"].made)]
    del straight, memory
    gc.collect()
    assert [one() for one in held] == [None] * 3


def test_settling_leaves_what_was_learned_and_the_rest_is_compiled_again():
    straight, memory = learned(Adds())
    straight.settle()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        for key, graphs in (("two", 0), ("other", 1)):
            found = straight(key, 4, memory, torch.ones(2, 4), torch.ones(2))
            torch.testing.assert_close(found, (torch.tensor([2.0, 3.0]) + memory) * 16)
            assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_whoever_compiles_nothing_waits_for_no_compiler():
    known = "import sys, bloomery.infer.batch; sys.exit(any(f'torch.{one}' in sys.modules for one in ('_dynamo', '_inductor')))"
    assert subprocess.run([sys.executable, "-c", known], check=False).returncode == 0
