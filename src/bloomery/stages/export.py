"""Export: a model as other tools load it, proved by loading it with them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact

BYTES = {  # of a weight
    "float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "F32": 4.0, "F16": 2.0, "Q8_0": 34 / 32, "Q4_0": 18 / 32, "Q4_K": 144 / 256,
}  # fmt: skip
PACKAGES = {
    "huggingface": ("transformers",), "gguf": ("gguf",), "compressed-tensors": ("transformers", "compressed_tensors"),
    "gptq": ("transformers",), "torchao": ("transformers", "torchao"),
}  # fmt: skip
CODES = ("compressed-tensors", "gptq", "torchao")  # formats that hold the codes of a compressed model


@dataclass(frozen=True)
class Export:
    """Write a model for other tools and load it with them to compare tokens and logits."""

    model: Annotated[Artifact, "model"]  # what is written
    data: Annotated[Artifact | None, "*"] = None  # tokens or chats whose held-out part the copy is measured on
    format: Literal["huggingface", "gguf", "compressed-tensors", "gptq", "torchao"] = "huggingface"  # gguf: llama.cpp; last three: codes
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"  # of dense weights, but for gguf; 16 bits round
    type: Literal["F32", "F16", "Q8_0", "Q4_0", "Q4_K"] = "F16"  # gguf: of the matrices; a compressed model's 8 or 4 bit codes are kept
    embedding: Literal["F16", "Q8_0"] = "F16"  # gguf: of the embedding and the head where the type is of codes
    makes: ClassVar[str] = "folder"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if self.format == "gguf" and self.dtype != "float32":
            raise ValueError("dtype is of the formats beside gguf; for gguf say type")
        if self.format != "gguf" and (self.type != "F16" or self.embedding != "F16"):
            raise ValueError(f"type and embedding are of the format gguf; for {self.format} say dtype")

    @property
    def quantized(self) -> bool:
        """Whether the matrices of a GGUF file are codes."""
        return self.format == "gguf" and self.type not in ("F32", "F16")

    def mode(self) -> dict:
        """What reads the copy back: a file that llama.cpp has not run is made again once llama.cpp is there."""
        return {name: installed_version(name) for name in ("gguf", "llama-cpp-python")} if self.format == "gguf" else {}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """The weights on disk; in memory ours, theirs and one copy; the import of transformers is most of the time.

        BadInput where the format's package is missing, or the model is there and cannot be written in this format.
        """
        self.demand()
        self.demand_whole()
        self.demand_format(inputs["model"].facts)
        self.demand_codes(inputs["model"].facts)
        parameters = float(inputs["model"].facts.get("parameters") or 0)
        disk = BYTES[self.type if self.format == "gguf" else self.dtype] * parameters + 1e6
        facts = {"parameters": parameters, "bytes": disk}
        reading = 3 * 2 * parameters * 16384 / (0.4 * machine.matmul_flops.get("float32", 1e11))  # held-out tokens, by both sides
        memory = 6e8 + (20 if self.format == "gguf" else 12) * parameters
        return Forecast(seconds=10 + 16 * parameters / 1e9 + reading, memory=memory, disk=disk, facts=facts)

    def demand(self) -> None:
        """BadInput where a package of the format is missing."""
        missing = [name for name in PACKAGES[self.format] if importlib.util.find_spec(name) is None]
        if missing:
            raise BadInput(f"the package {missing[0]} is missing: pip install 'bloomery[all]', or {missing[0].replace('_', '-')} alone")

    def demand_whole(self) -> None:
        """BadInput where the model is there and is an adapter, or an outside folder whose weights are not in one file."""
        from bloomery.nn.config import Config

        if self.model is None:
            return
        if self.model.path("adapter_config.json").is_file():
            raise BadInput(f"{self.model.name} is an adapter; merge it first (a merge step), then export")
        if not self.model.path("model.safetensors").is_file():
            mend = "write it anew with bloomery.load(...).save(...), or name a folder that does"
            raise BadInput(f"{self.model.folder} holds no model.safetensors with all weights; {mend}")
        if self.model.path("model.json").is_file() and not Config.read(self.model.path("model.json")).predicts_next:
            mend = "bloomery.nn.hf.to_hf writes its folder for transformers"
            raise BadInput(f"{self.model.name} reads its text in both directions, and exports are measured as decoders; {mend}")

    def demand_format(self, facts: dict[str, Any]) -> None:
        """BadInput where the model's shape is known, made or not, and GGUF files of it are not written."""
        if self.format != "gguf" or not ("config" in facts or (self.model is not None and self.model.path("model.json").is_file())):
            return
        from bloomery.nn.gguf import writable
        from bloomery.stages._forecast import shape_of

        writable(shape_of(self.model, facts))

    def demand_codes(self, facts: dict[str, Any]) -> None:
        """BadInput where the format holds codes, and the model has none or others than it can say: found without reading a weight, of a
        compressed model that is there and, by the knobs of its step, of one that is to be made."""
        if self.format not in CODES:
            return
        if self.model is not None and not self.model.path("quantization.json").is_file():
            raise BadInput(f"{self.model.name} is not compressed, and {self.format} holds codes: give what a compress step made")
        from bloomery.stages._forecast import known_shape

        cfg = known_shape(self.model, facts) if self.model is not None or "codes" in facts else None
        if cfg is None or cfg.modules:
            return
        from bloomery.nn.hf_codes import expected, outlined
        from bloomery.nn.model import Transformer
        from bloomery.stages._export_codes import format_of

        small = expected(cfg, **facts["codes"]) if self.model is None else outlined(self.model.folder, cfg)
        format_of(self).refuse(Transformer(cfg, None), small)

    def run(self, job: Job) -> None:
        """Load, write, count."""
        self.demand()
        self.writer().write(self, job)

    def check(self, made: Path, job: Job) -> None:
        """What was written, read back by the tools it is for: weights, token ids, logits."""
        self.demand()
        self.writer().check(self, made, job)

    def writer(self) -> Any:
        """The module that writes and checks the format."""
        from bloomery.stages import _export_codes, _export_gguf, _export_huggingface

        return {"huggingface": _export_huggingface, "gguf": _export_gguf}.get(self.format, _export_codes)


def installed_version(package: str) -> str:
    """The version of a package, "missing" where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
