from __future__ import annotations

import json
import sys
import sysconfig

import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.documents import Broken, Options
from bloomery.data.read import python


def install(site, name: str, version: str, files: dict[str, str], metadata: str = "") -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\n\nLong description\n")
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    (info / "RECORD").write_text(
        "".join(f"{path},sha256=x,1\n" for path in [*files, f"{info.name}/METADATA", f"{info.name}/licenses/a.txt", "../../bin/tool.py"])
    )


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Lays out an installation below a folder and makes it the interpreter's own."""

    def use(name: str) -> None:
        root = tmp_path / name
        library, site = root / "lib", root / "lib" / "site-packages"
        for path, text in {
            "json/__init__.py": "j",
            "json/decoder.py": "jd",
            "ast.py": "a",
            "_sysconfigdata__linux.py": "no",
            "LICENSE.txt": "no",
            "json/__pycache__/x.py": "no",
            "config-3.11/p.py": "no",
            "sitecustomize.py": "no",
            "lib-dynload/x.py": "no",
        }.items():
            (library / path).parent.mkdir(parents=True, exist_ok=True)
            (library / path).write_text(text)
        install(
            site,
            "Some_Pkg",
            "1.0",
            {"some/a.py": "x" * 50, "some/b.pyi": "y", "some/data.bin": "no", "some/r.rst": "r"},
            "License-Expression: MIT",
        )
        install(
            site,
            "other",
            "2.0",
            {"other.py": "o" * 100, "ast.py": "mine"},
            "License: UNKNOWN\nClassifier: License :: OSI Approved :: BSD License",
        )
        install(site, "ast", "9", {"astx/q.py": "q"}, "License: Apache 2.0")
        install(site, "bloomery", "0.1", {"bloomery/a.py": "no"})
        (site / "__editable__thing.py").write_text("no")
        (site / "generated.py").write_text("not in any RECORD")
        monkeypatch.setattr(sysconfig, "get_path", lambda key: str(library))
        monkeypatch.setattr(sys, "path", ["", str(site), str(root)])
        python._sampled.cache_clear()

    yield use
    python._sampled.cache_clear()


def documents(**options):
    opened = sources.open_sources([{"from": "python://", **options}])
    sources.check(opened)
    return [found for task in sources.tasks(opened, 10**6) for found in sources.read(task)], sources.fingerprint(opened)[0]


def test_exactly_the_text_files_of_library_and_packages(machine):
    machine("one")
    found, seen = documents()
    assert {(doc.meta["package"], doc.meta["path"], doc.meta["licence"]) for doc in found} == {
        ("json", "json/__init__.py", "PSF-2.0"),
        ("json", "json/decoder.py", "PSF-2.0"),
        ("ast", "ast.py", "PSF-2.0"),
        ("some-pkg", "some/a.py", "MIT"),
        ("some-pkg", "some/b.pyi", "MIT"),
        ("some-pkg", "some/r.rst", "MIT"),
        ("other", "other.py", "BSD License"),
        ("other", "ast.py", "BSD License"),
        ("ast (installed)", "astx/q.py", "Apache 2.0"),
    }
    assert seen["files"] == 9 and seen["bytes"] == sum(doc.meta["bytes"] for doc in found)


def test_two_machines_with_the_same_packages_agree(machine, tmp_path):
    results = []
    for name in ("one", "two"):
        machine(name)
        results.append(documents(size="200", share=0.6))
    assert results[0][1] == results[1][1] and json.dumps(results[0][1])
    assert [(doc.id, doc.meta, doc.text) for doc in results[0][0]] == [(doc.id, doc.meta, doc.text) for doc in results[1][0]]
    assert str(tmp_path) not in repr(results)
    (tmp_path / "two/lib/json/decoder.py").write_text("changed")
    python._sampled.cache_clear()
    assert documents()[1]["sha256"] != results[0][1]["sha256"]


def test_the_sample_keeps_size_and_share(machine):
    options = Options(size="2MB", share=0.1)
    chosen = python.sample(options)
    sizes = {package.name: sum(length for _, length in files) for package, files in chosen}
    assert 1.7e6 < sum(sizes.values()) <= 2e6 and max(sizes.values()) <= 2e5
    assert python.sample(options) == chosen
    assert [package.name for package, _ in python.sample(Options(size="2MB", share=0.1, seed=1))] != list(sizes)
    machine("one")
    with pytest.raises(BadInput, match="holds no file"):
        documents(size="1", share=0.1)


def test_files_that_go_or_are_not_utf8_are_dropped_with_a_reason(machine, tmp_path):
    machine("one")
    (tmp_path / "one/lib/json/decoder.py").write_bytes("# naïve".encode("latin-1"))
    opened = sources.open_sources(["python://"])
    tasks = list(sources.tasks(opened, 10**6))
    (tmp_path / "one/lib/ast.py").unlink()
    found = {one.path: one for task in tasks for one in sources.read(task) if isinstance(one, Broken)}
    assert found["json/decoder.py"].reason == "other encoding" and found["json/decoder.py"].licence == "PSF-2.0"
    assert found["ast.py"].reason == "unreadable" and len(found) == 2
