"""llama.cpp on a GGUF file, all rows in one batch as its own benchmark of batches does; kinds are the files: F32, BF16, Q8_0, Q4_0."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
from decode_turns import Ids, begin, serve


class Context:
    """A model with a cache for so many rows."""

    def __init__(self, path: Path, rows: int, tokens: int, vocab: int, threads: int) -> None:
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        told = llama_cpp.llama_context_default_params()
        told.n_ctx, told.n_seq_max, told.n_batch, told.n_ubatch = rows * tokens, rows, rows * tokens, 512
        told.n_threads = told.n_threads_batch = threads
        self.inner = llama_cpp.llama_init_from_model(self.model, told)
        self.memory, self.vocab = llama_cpp.llama_get_memory(self.inner), vocab
        self.batch = llama_cpp.llama_batch_init(rows * tokens, 0, 1)

    def read(self, tokens: Ids, at: int) -> list[int]:
        """The likeliest token after the newest ones of each row, which begin at a position."""
        batch, place, last = self.batch, 0, []
        for row, ids in enumerate(tokens):
            for i, token in enumerate(ids):
                batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, at + i, 1
                batch.seq_id[place][0], batch.logits[place] = row, i == len(ids) - 1
                place += 1
            last.append(place - 1)
        batch.n_tokens = place
        if llama_cpp.llama_decode(self.inner, batch):
            raise RuntimeError("llama.cpp did not decode a batch")
        logits = (np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.inner, i), shape=(self.vocab,)) for i in last)
        return [int(one.argmax()) for one in logits]


def main() -> None:
    job = begin()
    context = Context(Path(job.folder) / f"{job.kind}.gguf", job.rows, job.prompt + job.new + 8, job.vocab, job.threads)

    def write(prompts: Ids, new: int) -> Ids:
        llama_cpp.llama_memory_clear(context.memory, False)
        newest = context.read(prompts, 0)
        found = [[token] for token in newest]
        for step in range(1, new):
            newest = context.read([[token] for token in newest], job.prompt + step - 1)
            for row, token in zip(found, newest, strict=True):
                row.append(token)
        return found

    write(job.prompts(job.rows, 0), 2)
    serve(job, write, 0.0)


if __name__ == "__main__":
    main()
