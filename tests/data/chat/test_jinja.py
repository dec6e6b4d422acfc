from __future__ import annotations

import datetime

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.chat import jinja
from bloomery.data.tokenizer import CHAT_TEMPLATE

MESSAGES = [{"role": "user", "content": "a <b> é"}, {"role": "assistant", "content": "c"}]


def said(source: str, **more) -> str:
    return jinja.rendered(source, {"messages": MESSAGES, **more})


def test_what_hugging_face_templates_may_use():
    assert said("{{ messages[0]|tojson }}") == '{"role": "user", "content": "a <b> é"}', "no HTML escapes"
    assert said("{{ {'b': 1, 'a': [2]}|tojson(indent=1, sort_keys=true) }}") == '{\n "a": [\n  2\n ],\n "b": 1\n}'
    assert (
        said("{% for m in messages %}\n  {% if loop.first %}{% continue %}{% endif %}\n{{ m.content }}\n{% break %}{% endfor %}") == "c\n"
    )
    assert said("{{ strftime_now('%Y') }}") == str(datetime.datetime.now().year)
    assert said("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}") == "2"
    assert said("{% generation %} x {{ 1 }}\n{% endgeneration %}!") == " x 1\n!"
    assert said("{% generation %}x{% endgeneration %}!", **{jinja.BOUNDS: ("<", ">")}) == "<x>!"
    macro = "{% macro m(t) %}{% generation %}{{ t }}{% endgeneration %}{% endmacro %}"
    assert said(macro + "{{ m('x') }}", **{jinja.BOUNDS: ("<", ">")}) == "<x>"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ raise_exception('Only two roles') }}", "refuses this conversation: Only two roles"),
        ("{{ absent.thing }}", "fails on this conversation .UndefinedError"),
        ("{{ messages[0]['content'] + 1 }}", "fails on this conversation .TypeError"),
        ("{{ ''.__class__.__mro__ }}", "fails on this conversation .SecurityError"),
        ("{{ messages.append(1) }}", "fails on this conversation .SecurityError"),
        ("a\n{% if %}", "no Jinja template .line 2"),
        ("{% generation %}", "no Jinja template"),
    ],
)
def test_templates_that_refuse_fail_or_break_out(source, why):
    with pytest.raises(BadInput, match=why) as caught:
        said(source)
    assert "\n" not in str(caught.value)


def test_the_same_text_without_generation_blocks():
    odd = "a\n  {%- generation -%}\n  {{ messages[1].content }}\n  {%  endgeneration %}\nb {# generation #}"
    odd += "{% raw %}{% generation %}{% endraw %}"
    for source in (CHAT_TEMPLATE, odd):
        other = jinja.without_generation(source)
        assert said(other, bos_token="<", eos_token=">") == said(source, bos_token="<", eos_token=">")
        assert jinja.has_generation(source) and not jinja.has_generation(other)
    assert not jinja.has_generation("{{ generation }}{% if generation %}{% endif %}{# generation endgeneration #}")
