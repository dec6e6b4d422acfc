"""`bloomery preview`: the exact tokens that a step trains on."""
NAME = "preview"
def command() -> None:
    """."""
