from __future__ import annotations

import ast
import inspect
import sysconfig
import textwrap
from pathlib import Path

import pytest

from bloomery.methods.edit.code_pairs import CodePairs, functions
from bloomery.seams import Doc, Drop, Rng

RNG = Rng((0, "pairs"))
ALL = CodePairs(question=10**6, answer=10**6, docstring=1)


def pairs(text: str, method: CodePairs = ALL) -> dict[str, Doc]:
    """Kind and name -> document, of a source indented in the test."""
    made = method.edit(Doc("d", textwrap.dedent(text).strip("\n") + "\n", {"path": "p.py", "package": "q"}), None, RNG)
    return {f"{one.meta['kind']} {one.meta['name']}": one for one in made}


def question(doc: Doc) -> str:
    (first, asked), (second, answer) = doc.meta["messages"]
    assert (first, second, answer) == ("user", "assistant", doc.text)
    return asked


def test_exact():
    found = pairs('''
        class Shape:
            @property
            async def area(self,  w : int=3, *, h = 'x') ->int:
                """Area of it.

                In squares.
                """
                # times
                if w:
                    return w * h  # done

                return 0
    ''')
    assert list(found) == ["body Shape.area", "docstring Shape.area", "signature Shape.area"]
    body, docstring, signature = found.values()
    sign = "async def area(self, w: int=3, *, h='x') -> int:"
    code = "    # times\n    if w:\n        return w * h  # done\n\n    return 0"
    text = "Area of it.\n\nIn squares."
    top = f'@property\n{sign}\n    """Area of it.\n\n    In squares.\n    """'
    assert body.text == code and body.meta["plain"] == f"{top}\n" and question(body) == f"Write the body of this function.\n\n{top}"
    assert docstring.text == text and question(docstring) == f"Write the docstring of this function.\n\n@property\n{sign}\n{code}"
    assert docstring.meta["plain"] == f'@property\n{sign}\n{code}\n\n\n{sign}\n    """'
    assert signature.text == sign and question(signature) == f"Write the signature of Shape.area.\n\n{text}"
    assert signature.meta["plain"] == "# Shape.area: Area of it.\n#\n# In squares.\n"
    assert body.id == "d:3:body" and (body.meta["path"], body.meta["package"], body.meta["line"]) == ("p.py", "q", 3)


def test_only_what_can_be_asked_is():
    found = pairs('''
        def one_line(x): "Says one."; return x
        def stub(x):
            "Says two."
            ...
        def refused(x):
            """Says three."""
            raise NotImplemented
        def undocumented(x):
            return x
        def alone():
            """Says four."""
        def second(x):
            """Says five."""
            "And this would be the docstring."
            return x
        def told(x):
            """Says six."""
            print("Says six.")
        def quotes(x):
            \'\'\'Says """seven""".\'\'\'
            return x
        def after(x):
            r"""Says \\eight."""  # here
            return x
    ''')
    assert {name for name in found if "signature" in name} == {
        f"signature {name}" for name in ("one_line", "stub", "refused", "alone", "second", "told", "quotes", "after")
    }
    assert {name for name in found if "body" in name} == {f"body {name}" for name in ("second", "told", "quotes", "after")}
    assert {name for name in found if "docstring" in name} == {"docstring after"}
    assert found["docstring after"].text == "Says \\eight." and found["body after"].meta["plain"].endswith('r"""Says \\eight."""  # here\n')


def test_strings_of_several_lines_stay_what_they_are():
    found = pairs('''
        def outer():
            def inner(x):
                """Says it."""
                text = """first
                    second
                """
                return (text,
                    x)
    ''')
    assert found["body inner"].text == '    text = """first\n            second\n        """\n    return (text,\n        x)'
    two, tabs = pairs('def f(x):\n  """Says it."""\n  if x:\n    return 1\n'), pairs('def f(x):\n\t"""Says it."""\n\tif x:\n\t\treturn 1\n')
    assert two["body f"].text == "    if x:\n      return 1" and tabs["body f"].text == "    if x:\n    \treturn 1"


def test_no_python_is_dropped_and_line_ends_do_not_matter():
    assert ALL.edit(Doc("d", "def f(:\n"), None, RNG) == Drop("not Python") == ALL.edit(Doc("d", "a\0b"), None, RNG)
    assert ALL.edit(Doc("d", "x = 1\n"), None, RNG) == []
    source = 'def f(x):\n    """Says it."""\n    return "\\d"\n'
    texts = [[one.text for one in ALL.edit(Doc("d", source.replace("\n", end)), None, RNG)] for end in ("\n", "\r\n", "\r")]
    assert len(texts[0]) == 3 and texts[0] == texts[1] == texts[2]


def test_knobs():
    source = "".join(f'def f{i}(x):\n    """Says the number {i} aloud."""\n    return {i}\n' for i in range(9))
    assert len(pairs(source)) == 27 and not pairs(source, CodePairs(docstring=60)) and not pairs(source, CodePairs(answer=3))
    assert {name.split()[0] for name in pairs(source, CodePairs(kinds=("body",)))} == {"body"}
    few = pairs(source, CodePairs(most=4))
    assert len(few) == 4 and list(few) == [name for name in pairs(source) if name in few] and few == pairs(source, CodePairs(most=4))
    assert all(len(question(one)) <= 90 for one in pairs(source, CodePairs(question=90)).values())
    for knobs in ({"kinds": ()}, {"kinds": ("poem",)}, {"answer": 0}, {"most": -1}):
        with pytest.raises(ValueError, match="at least"):
            CodePairs(**knobs)


MODULES = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-q]*.py"))


def bare(node: ast.AST) -> str:
    """A function's tree with its docstring as `inspect` cleans it."""
    node.body[0].value.value = inspect.cleandoc(node.body[0].value.value)
    return ast.dump(node)


@pytest.mark.parametrize("path", MODULES[::7], ids=lambda path: path.stem)
def test_parts_make_the_function_again_and_nothing_leaks(path):
    """Over modules of the standard library, with all their decorators, coroutines, nested functions and odd strings."""
    source = path.read_text(encoding="utf-8")
    nodes = {node.lineno: node for node, _ in functions(ast.parse(source)) if ast.get_docstring(node)}
    made = ALL.edit(Doc(path.name, source), None, RNG)
    assert len({one.id for one in made}) == len(made) and {one.meta["line"] for one in made} <= nodes.keys()
    bodies = 0
    for one in made:
        node, asked = nodes[one.meta["line"]], question(one)
        written = asked.partition("\n\n")[2]
        if one.meta["kind"] == "body":
            bodies += 1
            assert bare(ast.parse(f"{written}\n{one.text}").body[0]) == bare(ast.parse(ast.unparse(node)).body[0])
            assert f"{one.meta['plain']}{one.text}" == f"{written}\n{one.text}" and "".join(one.text.split()) in "".join(source.split())
        elif one.meta["kind"] == "docstring":
            again = ast.parse(written).body[0]
            assert one.text == ast.get_docstring(node) and ast.get_docstring(again) is None and one.text not in asked
            assert [ast.dump(line) for line in again.body] == [ast.dump(line) for line in node.body[1:]]
            assert one.meta["plain"].endswith('"""') and ast.parse(f'{one.meta["plain"]}."""').body
        else:
            again = ast.parse(f"{one.text} pass").body[0]
            assert ast.dump(again.args) == ast.dump(node.args) and again.name == node.name and type(again) is type(node)
            assert all(line.startswith("#") for line in one.meta["plain"].splitlines())
    assert not nodes or made
    assert bodies >= 0.8 * sum(len(node.body) > 2 for node in nodes.values())
