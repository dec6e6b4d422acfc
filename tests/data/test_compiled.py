from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import bloomery

CODE = """
import sys
sys.path.insert(0, {folder!r})
import kernel
print(int(kernel.double(21)))
"""


def test_compiles_where_no_cache_can_be_written(tmp_path):
    (tmp_path / "kernel.py").write_text("from bloomery.data.compiled import compiled\n\n\n@compiled\ndef double(x):\n    return 2 * x\n")
    source = str(Path(bloomery.__file__).parent.parent)
    for name in ("writable", "closed"):
        places = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": source}
        environment = {**{k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}, **places}
        if name == "closed":  # a file in the way of the folder: closed to the superuser too
            for path in (tmp_path / "__pycache__").iterdir():
                path.unlink()
            (tmp_path / "__pycache__").rmdir()
            (tmp_path / "__pycache__").write_text("")
            tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        done = subprocess.run([sys.executable, "-c", CODE.format(folder=str(tmp_path))], env=environment, capture_output=True, text=True)
        tmp_path.chmod(stat.S_IRWXU)
        assert done.stdout.strip() == "42", done.stderr
    assert (tmp_path / "__pycache__").is_file()
