"""`bloomery doctor`: what this machine and this store are fit for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from bloomery.cli import options

NAME = "doctor"
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "pyarrow", "numba", "transformers", "datasets")


def command(store: options.Store = options.STORE) -> None:
    """Tell what this machine and store are fit for.

    Python, packages, processor, memory, disk, compiler, store; each trouble comes with its mend.
    """
    import platform
    import shutil

    from bloomery.core import machine
    from bloomery.core.index import rows
    from bloomery.core.store import Store
    from bloomery.draw.numbers import size as file_size

    opened = Store(store)
    print(f"python     {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        print(f"package    {name} {installed(name)}")
    print(f"processor  {machine.threads()} cores, bfloat16 in hardware: {'yes' if machine.has_bf16() else 'no (float32 is used)'}")
    print(f"compiler   {machine.compiler() or 'none: training runs uncompiled, at about two thirds of the speed; install g++'}")
    if installed("torch")[0].isdigit():
        import torch

        measured = machine.measure()
        print("matmul     " + ", ".join(f"{name} {speed / 1e9:,.0f} GFLOP/s" for name, speed in measured.matmul_flops.items()))
        print(f"gpu        {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
    print(f"memory     {file_size(machine.memory_bytes())}")
    print(f"disk       {file_size(shutil.disk_usage(opened.root).free)} free at {opened.root.resolve()}")
    found = rows(opened)
    damaged = [one.damaged for one in found if one.damaged]
    print(f"store      {len(found) - len(damaged)} artifacts, {file_size(sum(one.bytes for one in found))}, {len(damaged)} damaged")
    for sentence in damaged:
        print(f"           {sentence}")


def installed(package: str) -> str:
    """Its version, or how to get it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return f"missing: pip install {package}"
