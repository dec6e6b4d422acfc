"""Where an adapter's base is."""

from bloomery.core.adapter import located


def test_beside_absolute_or_as_it_is_said(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "adapter").mkdir()
    assert located(tmp_path / "adapter", "../base") == str(tmp_path / "base")
    assert located(tmp_path, "base") == str(tmp_path / "base") == located(tmp_path / "adapter", str(tmp_path / "base"))
    assert located(tmp_path / "adapter", "./gone") == str(tmp_path / "adapter" / "gone")
    assert located(tmp_path / "adapter", "owner/name") == "owner/name"
