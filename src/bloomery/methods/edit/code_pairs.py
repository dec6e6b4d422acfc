"""Questions and answers from Python code: a function's body, its docstring and its signature, each asked for from the rest."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from bloomery.core.rng import python_rng
from bloomery.seams import Doc, Drop, Rng, Tools

INDENT = "    "
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class CodePairs:
    """Mines each documented function for up to three conversations: write its body, its docstring, or its signature.

    Source: Husain et al. 2019, arXiv 1909.09436 (CodeSearchNet: functions and their docstrings are the pairs).
    Differs: the docstring is whole, and signature and body are asked for too. Answers are verbatim source, a signature as `ast` prints
        it; a function that does not parse to the same tree when it is put together again is left out.
    Costs: one parse of each document and of each function that has a docstring.
    """

    kinds: tuple[str, ...] = ("body", "docstring", "signature")  # what is asked for
    question: int = 500  # characters of a question at most
    answer: int = 300  # characters of an answer at most
    docstring: int = 20  # characters of a docstring at least
    most: int = 0  # conversations of one document at most, drawn at random; 0 = all

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= {"body", "docstring", "signature"}:
            raise ValueError("kinds are body, docstring and signature, at least one of them")
        if min(self.question, self.answer) < 1 or min(self.docstring, self.most) < 0:
            raise ValueError("question and answer must be at least 1, docstring and most at least 0")

    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop:
        """Conversations in the order of the code, `meta` with kind, messages, plain, name and line; Drop where it is no Python.

        `plain` is what stands directly before the answer in a module.
        """
        lines = doc.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        try:
            with warnings.catch_warnings():  # about escapes in the strings of others
                warnings.simplefilter("ignore")
                found = [pair for node, owner in functions(ast.parse("\n".join(lines))) for pair in self._pairs(node, owner, lines)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Drop("not Python")
        if self.most and len(found) > self.most:
            found = [found[i] for i in sorted(python_rng(rng).sample(range(len(found)), self.most))]
        return [Doc(f"{doc.id}:{meta['line']}:{meta['kind']}", answer, {**doc.meta, **meta}) for answer, meta in found]

    def _pairs(self, node: Function, owner: str, lines: list[str]) -> Iterator[tuple[str, dict]]:
        """The conversations of one function as answers and what is known of them."""
        text = ast.get_docstring(node) or ""
        if len(text) < self.docstring:
            return
        name, sign = f"{owner}.{node.name}" if owner else node.name, signature(node)
        head = "\n".join([*(f"@{ast.unparse(one)}" for one in node.decorator_list), sign])
        asked: dict[str, tuple[str, str, str]] = {}  # kind: question, plain, answer
        if not trivial(node) and (parts := Parts.of(node, lines)):
            top, alone = f"{head}\n{parts.docstring}", f"{head}\n{parts.body}"
            asked["body"] = (f"Write the body of this function.\n\n{top}", f"{top}\n", parts.body)
            if '"""' not in text and text.split("\n")[0] not in alone and not documented(alone):
                asked["docstring"] = (f"Write the docstring of this function.\n\n{alone}", f'{alone}\n\n\n{sign}\n{INDENT}"""', text)
        comment = "\n".join(f"# {line}".rstrip() for line in f"{name}: {text}".split("\n"))
        asked["signature"] = (f"Write the signature of {name}.\n\n{text}", f"{comment}\n", sign)
        for kind, (question, plain, answer) in asked.items():
            if kind in self.kinds and len(question) <= self.question and len(answer) <= self.answer and "\n" not in sign:
                messages = [["user", question], ["assistant", answer]]
                yield answer, {"kind": kind, "messages": messages, "plain": plain, "name": name, "line": node.lineno}


def functions(tree: ast.Module) -> list[tuple[Function, str]]:
    """All functions in the order of the code, each with the class that it belongs to ("" for none)."""
    found, waiting = [], [(node, "") for node in reversed(tree.body)]
    while waiting:
        node, owner = waiting.pop()
        if isinstance(node, Function):
            found.append((node, owner))
        inner = node.name if isinstance(node, ast.ClassDef) else owner if not isinstance(node, Function) else ""
        waiting += [(child, inner) for child in reversed(list(ast.iter_child_nodes(node))) if not isinstance(child, ast.expr)]
    return found


def signature(node: Function) -> str:
    """The line with `def`, as `ast` prints it: one line, spaces and quotes in one way, so that equal signatures are equal texts."""
    bare = {name: getattr(node, name) for name in node._fields if name not in ("body", "decorator_list", "type_comment")}
    return ast.unparse(type(node)(**bare, body=[], decorator_list=[], lineno=1, col_offset=0)).strip()


def trivial(node: Function) -> bool:
    """Whether a body says nothing: `pass`, `...`, or that it is not implemented."""
    return all(
        isinstance(one, ast.Pass)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        or (isinstance(one, ast.Raise) and "NotImplemented" in ast.unparse(one))
        for one in node.body[1:]
    )


def documented(source: str) -> bool:
    """Whether what is left of a function begins with a string, which would be taken for its docstring."""
    return ast.get_docstring(ast.parse(source).body[0]) is not None


@dataclass(frozen=True)
class Parts:
    """Docstring and body of a function in verbatim lines, indented by one level."""

    docstring: str
    body: str

    @classmethod
    def of(cls, node: Function, lines: list[str]) -> Parts | None:
        """None where the two do not stand on lines of their own, or would mean something else at another indentation."""
        first = node.body[0]
        if len(node.body) < 2 or node.body[1].lineno <= first.end_lineno or first.lineno <= node.lineno:
            return None
        indent, after = lines[first.lineno - 1][: first.col_offset], lines[first.end_lineno - 1].encode()[first.end_col_offset :].strip()
        if indent.strip() or (after and not after.startswith(b"#")):
            return None
        texts = [one for one in ast.walk(node) if isinstance(one, ast.Constant | ast.JoinedStr) and one is not first.value]
        inside = {line for one in texts for line in range(one.lineno + 1, one.end_lineno + 1)}
        for kept in (set(), inside):  # first all lines move; then those within strings of several lines stay
            moved = [
                INDENT + line[len(indent) :] if line.startswith(indent) and number not in kept else line
                for number, line in enumerate(lines[first.lineno - 1 : node.end_lineno], first.lineno)
            ]
            cut = first.end_lineno - first.lineno + 1
            docstring, body = "\n".join(moved[:cut]), "\n".join(moved[cut:]).strip("\n")
            if same(node, f"{signature(node)}\n{docstring}\n{body}\n"):
                return cls(docstring, body)
        return None


def same(node: Function, source: str) -> bool:
    """Whether a source is this function without its decorators, but for the indentation within the docstring."""
    try:
        (other,) = ast.parse(source).body
    except (SyntaxError, ValueError):
        return False
    return isinstance(other, type(node)) and told(node) == told(other)


def told(node: Function) -> tuple:
    """All that a function is but its decorators."""
    return signature(node), ast.get_docstring(node), [ast.dump(one) for one in node.body[1:]]
