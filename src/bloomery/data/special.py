"""Tokens that stand for no text: their names, and their places in every vocabulary that is learned here, which are their ids."""

ROLES = ("system", "user", "assistant")
SPECIAL = ("<|pad|>", "<|bos|>", "<|eos|>", *(f"<|{role}|>" for role in ROLES))
SMALLEST = len(SPECIAL) + 256  # every byte has a token, so that any text can be written
