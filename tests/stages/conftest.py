"""Lets tests of this folder, and processes that they start, import `small_pretrain`, whose fixtures they share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from small_pretrain import one_thread, tokens  # noqa: F401
