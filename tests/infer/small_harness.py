"""What tests of the harness share: tasks of lm-eval with their data, and small random models with a chat template, as files."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.core.rng import python_rng, torch_rng
from bloomery.data.chat.template import ChatTemplate
from bloomery.data.tokenizer import learn
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

WORDS = [
    "red", "green", "blue", "seven", "nine", "apple", "river", "stone",
    "small", "large", "runs", "sleeps", "under", "over", "quickly", "slowly",
]  # fmt: skip
BEGIN = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}.jsonl, train: {data}_shots.jsonl}}}}
test_split: test
training_split: train
fewshot_split: train
num_fewshot: {shots}
"""
TASKS = {
    "choices": ("questions", 2, """
task: choices
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: label
doc_to_choice: "{{options}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""),
    "letters": ("questions", 0, """
task: letters
output_type: multiple_choice
doc_to_text: "{{question}} "
doc_to_target: label
doc_to_choice: [" A", " B", " C"]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""),
    "texts": ("questions", 0, """
task: texts
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""),
    "cloze": ("questions", 0, """
task: cloze
output_type: loglikelihood
doc_to_text: "{{question}}"
doc_to_target: " {{answer}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""),
    "written": ("questions", 3, """
task: written
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: " {{answer}}"
generation_kwargs: {until: ["\\n", "e r", "Q:"], max_gen_toks: 12, do_sample: false, temperature: 0.0}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true}]
filter_list:
  - {name: first-word, filter: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
"""),
}  # fmt: skip


def sentence(draw, length: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(length))


def write_tasks(folder: Path, count: int = 12) -> Path:
    """The tasks, their YAML and data side by side; questions run from four words to more than a context holds."""
    draw = python_rng(Rng((3, "harness")))
    for part, number in (("", count), ("_shots", 6)):
        rows = []
        for i in range(number):
            question = sentence(draw, 4 + 30 * (i % 4) if not part else 5)
            options = [sentence(draw, 1 + (i + k) % 3) for k in range(3)]
            text = sentence(draw, 5 + 60 * (i % 3))
            rows.append({"question": question, "options": options, "label": i % 3, "answer": options[i % 3], "text": text})
        (folder / f"questions{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, (data, shots, body) in TASKS.items():
        (folder / f"{name}.yaml").write_text(BEGIN.format(data=data, shots=shots) + body)
    return folder


def write_model(folder: Path, style: str, context: int = 96) -> Path:
    """A random model as a Hugging Face folder, loud enough that no two tokens are nearly equally likely."""
    draw = python_rng(Rng((4, "words")))
    tokenizer = learn([sentence(draw, 200) for _ in range(20)] + ["Q: A: B C\n" * 9], 330)
    words = folder.parent / f"{folder.name}_words"
    words.mkdir(parents=True)
    tokenizer.save(words)
    ChatTemplate.builtin(words).save(words)
    shape = {"llama": {"tied": False}, "qwen3": {"architecture": "qwen3", "qk_norm": True}}[style]
    net = Transformer(Config(vocab=330, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=context, **shape))
    for p in net.parameters():
        p.data.normal_(0, 0.3, generator=torch_rng(Rng((5, style, *p.shape))))
    folder.mkdir()
    to_hf(net.eval(), words, folder)
    return folder
