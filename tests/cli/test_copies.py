"""The tables of copies and hops."""

from __future__ import annotations

from pathlib import Path

from bloomery.cli.copies import show_copies, show_hops, verdict
from bloomery.core.store import Artifact

HOP = {
    "ok": True, "from": "a", "to": "b", "what": "GGUF F16", "token_ids_differ": 0, "texts": 9, "limits": {"kl": 1e-4},
    "kl": 2e-7, "worst_kl": 3e-6, "agreement": 0.9991, "greedy_equal": 7, "greedy_total": 8, "tokens": 900,
    "note": "a long note", "example": "",
}  # fmt: skip


def made(name: str, **facts) -> Artifact:
    return Artifact(name * 8, Path("/store") / name, {"kind": "model", "facts": facts})


def test_a_copy_has_a_line_with_its_steps_name_and_blanks_where_nothing_was_measured(capsys) -> None:
    copy = {
        "label": "GPTQ 4-bit",
        "of": "tune-1",
        "bytes": 3_080_000,
        "bits_per_weight": 7.16,
        "nats": 4.0,
        "agreement": 0.95,
        "engine": "bloomery",
    }
    show_copies({"tuned": made("tune-1"), "int4": made("compress-1", copy=copy)})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "GPTQ" in line]
    assert line.split() == ["GPTQ", "4-bit", "int4", "tuned", "3.08", "MB", "7.16", "4.0000", "95.00%", "bloomery"]
    show_copies({"tuned": made("tune-1")})
    assert capsys.readouterr().out == ""


def test_a_copys_verdict_is_the_one_on_record(tmp_path: Path, monkeypatch) -> None:
    from bloomery.lab import claims, evidence

    (tmp_path / "claims" / "compress").mkdir(parents=True)
    file = tmp_path / "claims" / "compress" / "wanda.py"
    file.write_text("def better(lab):\n    pass\n")
    monkeypatch.setattr(claims, "folder", lambda: tmp_path / "claims")
    one, other = (Artifact("a" * 64, tmp_path, {"stage": "compress", "knobs": {"method": {name: {}}}}) for name in ("wanda", "rtn"))
    assert (verdict(one, None), verdict(other, None)) == ("not proven", "no claim")
    claim = claims.read(file, "compress")
    record = {
        "seam": "compress", "name": "wanda", "verdict": "holds", "date": "2026-01-01", "seeds": [0], "claims": [],
        "sources": evidence.sources(claim),
    }  # fmt: skip
    evidence.write(evidence.stored(tmp_path, claim), record)
    assert verdict(one, tmp_path) == "holds" and verdict(one, None) == "not proven"
    evidence.write(evidence.shipped(claim), record)
    assert verdict(one, None) == "holds"
    file.write_text("def better(lab):\n    return None\n")
    assert verdict(one, None) == "holds (stale)"
    assert verdict(made("tune-1"), None) == ""


def test_hops_hold_or_fail_and_notes_may_be_left_out(capsys) -> None:
    show_hops([HOP, {**HOP, "ok": False, "example": "text 'x'"}])
    first, second = (line.rstrip() for line in capsys.readouterr().out.splitlines()[1:])
    assert first.startswith("holds  a to b") and "2.00e-07 of 0.0001" in first and first.endswith("a long note")
    assert second.startswith("FAILS") and second.endswith("text 'x'")
    show_hops([HOP], notes=False)
    assert "note" not in capsys.readouterr().out
