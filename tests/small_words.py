"""A small tokenizer of Llama 2's kind."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, processors

LETTERS = "\u2581(),.[]=+:abcdefghijklmnopqrstuvwxyz"
JOINED = ["so", "me", "some", "wo", "rd", "word", "words", "an", "and", "\u2581some", "\u2581words", "\u2581and"]


def llama2() -> Tokenizer:
    """A space before the text, spaces are letters, unknown characters are bytes; its decoder takes the first space off."""
    names = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], *LETTERS, *JOINED]
    parts = [
        next((a, word[len(a) :]) for a in names[::-1] if word != a and word.startswith(a) and word[len(a) :] in names) for word in JOINED
    ]
    made = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, parts, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(names[:3])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made
