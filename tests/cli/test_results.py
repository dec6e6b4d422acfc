from __future__ import annotations

import os

from bloomery.cli.results import called


def test_a_program_is_named_as_a_shell_would_run_it() -> None:
    assert called("/some/where/bloomery/__main__.py") == "python -m bloomery"
    assert called(os.path.abspath("bin/bloomery")) == os.path.join("bin", "bloomery")
