"""The meshes of processes that tests and benchmarks try: sizes, methods of the axes, and what else is not as usual."""

from __future__ import annotations

from bloomery.nn.config import Config

MODELS = {
    "plain": Config(50, 16, 2, 4, 2, 24, 16),
    "tied": Config(50, 16, 2, 4, 4, 24, 16, tied=True),
    "windows": Config(50, 16, 2, 4, 2, 24, 16, windows=(5, 0)),
    "experts": Config(50, 16, 2, 4, 2, 24, 16, experts=4, top=2, architecture="mixtral"),
    "deep": Config(50, 16, 4, 4, 4, 24, 16, tied=False),
}
STEPS, ROWS, T = 20, 4, 16
SLOW = 1e-3  # at the usual rate the deep model makes 5e-4 of rounding's 1e-7 in 20 steps, by whatever mesh sums in another order
LORA = {"lora": {"rank": 2, "dropout": 0.1}}
Case = tuple[dict, list, dict]  # sizes, methods of the axes, what else is not as usual
TWO: dict[str, Case] = {
    "data": ({"data": 2}, ["zero"], {}),
    "zero3": ({"shard": 2}, ["zero"], {"model": "tied"}),
    "ulysses": ({"context": 2}, ["ulysses"], {}),
    "ring": ({"context": 2}, ["ring"], {"model": "windows"}),
    "vocabulary": ({"tensor": 2}, ["vocabulary_parallel"], {}),
    "tensor_lora": ({"tensor": 2}, ["megatron_tensor"], {"adapter": LORA, "rate": SLOW}),
    "pipeline": ({"pipeline": 2}, ["one_f_one_b"], {}),
    "expert": ({"expert": 2}, ["expert_parallel"], {"model": "experts"}),
}
WIDE2: dict[str, Case] = {
    "tensor": ({"tensor": 2}, ["megatron_tensor"], {}),
    "token_ring": ({"context": 2}, ["token_ring"], {}),
    "zero_bubble": ({"pipeline": 2}, ["zero_bubble"], {"model": "deep"}),
    "zero1": ({"shard": 2}, [{"zero": {"stage": 1}}], {}),
    "data_muon": ({"data": 2}, ["zero"], {"optimizer": "muon", "micro": 2}),
    "data_experts": ({"data": 2}, ["zero"], {"model": "experts"}),
    "zero2": ({"shard": 2}, [{"zero": {"stage": 2}}], {}),
    "zero3_muon": ({"shard": 2}, ["zero"], {"optimizer": "muon"}),
    "zero3_experts": ({"shard": 2}, ["zero"], {"model": "experts"}),
    "ulysses_windows": ({"context": 2}, ["ulysses"], {"model": "windows"}),
    "ring_plain": ({"context": 2}, ["ring"], {}),
    "zero3_lora": ({"shard": 2}, ["zero"], {"adapter": {"lora": {"rank": 2}}, "rate": SLOW}),
    "vocabulary_lora": ({"tensor": 2}, ["vocabulary_parallel"], {"model": "tied", "adapter": LORA, "rate": SLOW}),
    "pipeline_lora": ({"pipeline": 2}, ["one_f_one_b"], {"adapter": LORA, "rate": SLOW}),
    "pipeline_perp": ({"pipeline": 2}, ["one_f_one_b"], {"adapter": {"perp": {"rank": 2}}, "rate": SLOW}),
    "expert_lora": ({"expert": 2}, ["expert_parallel"], {"model": "experts", "adapter": {"lora": {"rank": 2}}, "rate": SLOW}),
    "tensor_muon": ({"tensor": 2}, ["megatron_tensor"], {"optimizer": "muon"}),
    "tensor_tied": ({"tensor": 2}, ["megatron_tensor"], {"model": "tied"}),
    "sequence": ({"tensor": 2}, [{"megatron_tensor": {"sequence": True}}], {}),
    "vocabulary_tied": ({"tensor": 2}, ["vocabulary_parallel"], {"model": "tied"}),
    "vocabulary_deep": ({"tensor": 2}, ["vocabulary_parallel"], {"model": "deep", "rate": SLOW}),
    "vocabulary_muon": ({"tensor": 2}, ["vocabulary_parallel"], {"optimizer": "muon"}),
    "token_ring_windows": ({"context": 2}, ["token_ring"], {"model": "windows"}),
    "bytescale_windows": ({"context": 2}, ["bytescale"], {"model": "windows"}),
    "bytescale": ({"context": 2}, ["bytescale"], {}),
    "gpipe": ({"pipeline": 2}, ["gpipe"], {}),
    "gpipe_kept": ({"pipeline": 2}, [{"gpipe": {"again": False}}], {"model": "windows"}),
    "pipeline_few": ({"pipeline": 2}, ["one_f_one_b"], {"micro": 4}),
    "pipeline_muon": ({"pipeline": 2}, ["one_f_one_b"], {"optimizer": "muon"}),
    "interleaved": ({"pipeline": 2}, ["interleaved_pipeline"], {"model": "deep"}),
    "zero_bubble_1p": ({"pipeline": 2}, [{"zero_bubble": {"order": "interleaved"}}], {"model": "deep"}),
    "pipeline_experts": ({"pipeline": 2}, ["one_f_one_b"], {"model": "experts"}),
    "expert_muon": ({"expert": 2}, ["expert_parallel"], {"model": "experts", "optimizer": "muon"}),
    "offload": ({"data": 2}, ["zero", "zero_offload"], {}),
    "infinity": ({"data": 2}, ["zero", "zero_infinity"], {}),
    "deep_states": ({"data": 2}, ["zero", {"deep_optimizer_states": {"piece": 1000}}], {}),
    "superpipeline": ({"data": 2}, ["zero", {"superpipeline": {"resident": 2, "together": 1}}], {"model": "deep"}),
}
LOCAL2: dict[str, Case] = {"diloco": ({"data": 2}, ["zero", {"diloco": {"every": 1}}], {})}  # not equal: ranks step by themselves
COMPILED: dict[str, Case] = {
    name: (sizes, methods, {"compile": True})
    for name, sizes, methods in (
        ("compiled_shard", {"shard": 2}, ["zero"]),
        ("compiled_tensor", {"tensor": 2}, ["megatron_tensor"]),
        ("compiled_sequence", {"tensor": 2}, [{"megatron_tensor": {"sequence": True}}]),
        ("compiled_pipeline", {"pipeline": 2}, ["one_f_one_b"]),
        ("compiled_gpipe", {"pipeline": 2}, ["gpipe"]),
        ("compiled_gpipe_kept", {"pipeline": 2}, [{"gpipe": {"again": False}}]),
    )
} | {"compiled_interleaved": ({"pipeline": 2}, ["interleaved_pipeline"], {"model": "deep", "rate": SLOW, "compile": True})}
ROUGH2: dict[str, Case] = (
    {  # working weights in bfloat16: digits differ, and losses stay close
        f"{name}_bfloat16": (*case[:2], {**case[2], "precision": "bfloat16"})
        for name, case in {**TWO, **WIDE2}.items()
        if name in ("zero3", "zero2", "ring", "ulysses", "pipeline", "zero_bubble", "expert", "gpipe")
    }
    | {"tensor_bfloat16": ({"tensor": 2}, ["zero", "megatron_tensor"], {"precision": "bfloat16"})}
)
FOUR: dict[str, Case] = {
    "data4": ({"data": 4}, ["zero"], {}),
    "shard4": ({"shard": 4}, ["zero"], {}),
    "data_shard": ({"data": 2, "shard": 2}, ["zero"], {}),
    "data_shard1": ({"data": 2, "shard": 2}, [{"zero": {"stage": 1}}], {}),
    "data_shard_muon": ({"data": 2, "shard": 2}, ["zero"], {"optimizer": "muon"}),
    "data_context": ({"data": 2, "context": 2}, ["zero", "ulysses"], {}),
    "shard_context": ({"shard": 2, "context": 2}, ["zero", "ring"], {}),
    "data_tensor": ({"data": 2, "tensor": 2}, ["zero", "megatron_tensor"], {}),
    "context_tensor": ({"context": 2, "tensor": 2}, ["ring", "megatron_tensor"], {}),
    "shard_tensor": ({"shard": 2, "tensor": 2}, ["zero", "megatron_tensor"], {}),
    "shard_tensor_lora": ({"shard": 2, "tensor": 2}, ["zero", "megatron_tensor"], {"adapter": LORA, "rate": SLOW}),
    "pipeline_tensor_lora": ({"pipeline": 2, "tensor": 2}, ["one_f_one_b", "megatron_tensor"], {"adapter": LORA, "rate": SLOW}),
    "ring4": ({"context": 4}, ["ring"], {}),
    "token_ring4": ({"context": 4}, ["token_ring"], {}),
    "bytescale4": ({"context": 4}, ["bytescale"], {}),
    "three_level": ({"shard": 4}, [{"three_level_partition": {"inner": 2}}], {}),
    "data_sequence": ({"data": 2, "tensor": 2}, ["zero", {"megatron_tensor": {"sequence": True}}], {}),
    "shard_sequence": ({"shard": 2, "tensor": 2}, ["zero", {"megatron_tensor": {"sequence": True}}], {}),
    "shard_vocabulary": ({"shard": 2, "tensor": 2}, ["zero", "vocabulary_parallel"], {}),
    "context_vocabulary": ({"context": 2, "tensor": 2}, ["token_ring", "vocabulary_parallel"], {}),
    "pipeline4": ({"pipeline": 4}, ["one_f_one_b"], {"model": "deep"}),
    "pipeline_data": ({"pipeline": 2, "data": 2}, ["one_f_one_b", "zero"], {}),
    "pipeline_context": ({"pipeline": 2, "context": 2}, ["one_f_one_b", "ulysses"], {}),
    "pipeline_shard": ({"pipeline": 2, "shard": 2}, ["one_f_one_b", "zero"], {}),
    "gpipe_shard1": ({"pipeline": 2, "shard": 2}, [{"gpipe": {"again": False}}, {"zero": {"stage": 1}}], {}),
    "pipeline_tensor": ({"pipeline": 2, "tensor": 2}, ["gpipe", "megatron_tensor"], {}),
    "interleaved_data": ({"pipeline": 2, "data": 2}, ["interleaved_pipeline", "zero"], {"model": "deep"}),
    "pipeline_expert": ({"pipeline": 2, "expert": 2}, ["one_f_one_b", "expert_parallel"], {"model": "experts"}),
    "data_expert": ({"data": 2, "expert": 2}, ["zero", "expert_parallel"], {"model": "experts"}),
    "context_expert": ({"context": 2, "expert": 2}, ["ulysses", "expert_parallel"], {"model": "experts"}),
    "shard_expert": ({"shard": 2, "expert": 2}, ["zero", "expert_parallel"], {"model": "experts"}),
    "shard_expert_muon": ({"shard": 2, "expert": 2}, ["zero", "expert_parallel"], {"model": "experts", "optimizer": "muon"}),
    "shard1_expert": ({"shard": 2, "expert": 2}, [{"zero": {"stage": 1}}, "expert_parallel"], {"model": "experts"}),
    "shard_expert_lora": (
        {"shard": 2, "expert": 2},
        ["zero", "expert_parallel"],
        {"model": "experts", "adapter": {"lora": {"rank": 2}}, "rate": SLOW},
    ),
    "expert4": ({"expert": 4}, ["expert_parallel"], {"model": "experts"}),
}
ROUGH4: dict[str, Case] = {
    f"{name}_bfloat16": (*FOUR[name][:2], {**FOUR[name][2], "precision": "bfloat16"})
    for name in ("shard_tensor", "shard_expert", "pipeline_shard", "three_level")
}
