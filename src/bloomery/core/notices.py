"""Notices that libraries log when they are imported, and that no user of this machine can act on.

torchao brings kernels for GPUs and tries to load all of them: where there is no GPU each failure is a line on standard error, and so is
a notice of torch about how torchao registers one of its types. Faults of anything else are logged as ever, and so are these kernels'
where there is a GPU that wants them.
"""

from __future__ import annotations

import logging
import sys

KNOWN = {"torchao": "Failed to load ", "torch.utils._pytree": "%s is an Enum subclass "}  # by logger: how the message begins


def hush() -> None:
    """Passes these over in this process; may be said again."""
    for name in KNOWN:
        logging.getLogger(name).addFilter(wanted)  # which takes a function once


def wanted(record: logging.LogRecord) -> bool:
    """Whether a record of one of these loggers is to be seen."""
    if record.levelno > logging.WARNING or not str(record.msg).startswith(KNOWN[record.name]):
        return True
    torch = sys.modules.get("torch")
    return record.name == "torchao" and torch is not None and torch.cuda.is_available()
