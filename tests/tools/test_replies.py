from __future__ import annotations

import threading

from bloomery.tools.replies import Replies, key_of


def test_what_is_added_is_found_by_any_process_and_the_first_stands(tmp_path):
    replies = Replies(tmp_path / "deep" / "er")
    assert replies.known(["a"]) == {}
    replies.add({"a": [1.5, "é", None], "b": {"x": 1}})
    replies.add({"a": "late"})
    assert Replies(tmp_path / "deep" / "er").known(["a", "b", "c"]) == {"a": [1.5, "é", None], "b": {"x": 1}}


def test_many_keys_and_several_threads(tmp_path):
    replies = Replies(tmp_path)
    threads = [threading.Thread(target=lambda k=k: replies.add({f"{k}-{i}": i for i in range(400)})) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies.known([f"{k}-{i}" for k in range(4) for i in range(400)])) == 1600


def test_keys_tell_all_parts_apart():
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1})
    assert len({key_of("a", 1), key_of("a", "1"), key_of("a", 1.0), key_of(["a", 1]), key_of("a", "\ud800")}) == 5
