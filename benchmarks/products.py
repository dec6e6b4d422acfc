"""Processor time of one linear by the form of its weights and the rows of a step (up to 64) or a prompt (more), beside plain bfloat16.

    python benchmarks/products.py [--shapes 1536x512,6144x1024] [--rows 1,4,8,16,64,512] [--threads 1] [--rounds 5] [--json]

All forms take turns with the same inputs; the least processor time of the rounds counts, in microseconds. `wide` forms keep a second copy
for steps of 4 rows and more (`bloomery.infer.weights`). Error: the norm of the difference from the product in fp64 with the weight as it
was before rounding, over the product's norm, at 16 rows.

--json: a line for each form and shape, {"contest", "unit", "form", "ours" (by rows), "peer": "bf16", "peer_value" (by rows), "error"}.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from torch import Tensor, nn

from bloomery.infer.codes import Codes
from bloomery.infer.weights import Report, packed_linear

STEP = 64  # rows of a step at most; more are a prompt's
FORMS = ("bf16", "int8", "int8 wide", "w8a8", "w8a8 wide", "int4", "int4 wide", "w4a8", "w4a8 wide")


def form_of(weight_OI: Tensor, form: str) -> nn.Module:
    """A linear with its weight in one of the forms."""
    kind, _, wide = form.partition(" ")
    plain = nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=False, dtype=torch.bfloat16)
    plain.weight = nn.Parameter(weight_OI.bfloat16(), requires_grad=False)
    made = packed_linear("linear", plain, kind, None, 64, torch.bfloat16, Report())
    if wide and isinstance(made, Codes):
        made.widen()
    return made


@torch.inference_mode()
def measured(forms: dict[str, nn.Module], inputs: int, rows: int, rounds: int) -> dict[str, float]:
    """Microseconds of the processor for a product of each form."""
    x, often = torch.randn(*((rows, 1) if rows <= STEP else (1, rows)), inputs).bfloat16(), max(1, 32 // rows)
    best = dict.fromkeys(forms, float("inf"))
    for turn in range(rounds + 1):
        for form, unit in forms.items():
            began = time.process_time()
            for _ in range(often):
                unit(x)
            took = (time.process_time() - began) / often
            best[form] = min(best[form], took) if turn else best[form]
    return {form: 1e6 * took for form, took in best.items()}


@torch.inference_mode()
def error(unit: nn.Module, weight_OI: Tensor) -> float:
    x = torch.randn(16, weight_OI.shape[1], generator=torch.Generator().manual_seed(1)).bfloat16()
    want = x.double() @ weight_OI.double().T
    return float((unit(x).double() - want).norm() / want.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="1536x512,6144x1024", help="outputs x inputs, comma-separated")
    parser.add_argument("--rows", default="1,4,8,16,64,512")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    counts = [int(one) for one in given.rows.split(",")]
    for shape in given.shapes.split(","):
        outputs, inputs = map(int, shape.split("x"))
        weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0)) * inputs**-0.5
        forms = {form: form_of(weight, form) for form in FORMS}
        took = {rows: measured(forms, inputs, rows, given.rounds) for rows in counts}
        if not given.json:
            print(
                f"\n{shape}, us of the processor, {given.threads} threads\n\n| form | {' | '.join(f'{n} rows' for n in counts)} | error |"
            )
            print("|---" * (len(counts) + 2) + "|")
        for form, unit in forms.items():
            if given.json:
                line = {"contest": f"product-{shape}", "unit": "us", "form": form, "ours": {n: round(took[n][form], 1) for n in counts}}
                line |= {"peer": "bf16", "peer_value": {n: round(took[n]["bf16"], 1) for n in counts}, "error": error(unit, weight)}
                print(json.dumps(line), flush=True)
            else:
                print(f"| {form} | {' | '.join(f'{took[n][form]:,.0f}' for n in counts)} | {error(unit, weight):.1e} |", flush=True)


if __name__ == "__main__":
    main()
