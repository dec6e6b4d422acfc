"""What pyproject.toml cannot say: the claims, which lie beside the source, are a folder of the installed package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithClaims(build_py):
    """Copies claims/ and its results into the wheel."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            place = Path(self.build_lib) / "bloomery" / "claims"
            shutil.copytree("claims", place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": WithClaims})
