"""What pyproject.toml cannot say: claims and recipes, which lie beside the source, are folders of the installed package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithFolders(build_py):
    """Copies claims/ with its results, and recipes/, into the wheel."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in ("claims", "recipes"):
                place = Path(self.build_lib) / "bloomery" / name
                shutil.copytree(name, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": WithFolders})
