"""One self-contained page: the style sheets inlined, everything escaped except what draw itself drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.draw import numbers

HERE = Path(__file__).parent
TEMPLATES = (  # named here, so that a step's address covers them
    "report.html.j2", "report_steps.html.j2", "report_data.html.j2", "report_training.html.j2", "report_scores.html.j2",
    "report_samples.html.j2", "report_copies.html.j2", "report_ledger.html.j2",
)  # fmt: skip
CORPUS = "corpus.html.j2"
CONTAMINATION = "contamination.html.j2"
COMPARISON = "compare.html.j2"


def style() -> str:
    """The style sheets of drawings and page in one; `charts.css` alone serves a page that only shows drawings."""
    return "\n".join((HERE / name).read_text(encoding="utf-8").strip() for name in ("charts.css", "report.css"))


def markup(drawn: str) -> Any:
    """Mark what draw drew (already escaped inside) as markup, so that the template leaves it alone."""
    from markupsafe import Markup

    return Markup(drawn)


def render(page: str = TEMPLATES[0], **values: Any) -> str:
    """The report, or another page; a value that the template needs and does not get is an error, not a blank."""
    import jinja2

    parts = jinja2.DictLoader({name: (HERE / name).read_text(encoding="utf-8") for name in (*TEMPLATES, CORPUS, CONTAMINATION, COMPARISON)})
    world = jinja2.Environment(loader=parts, autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    world.filters.update(count=numbers.count)
    return world.get_template(page).render(style=markup(style()), **values)


def standalone(svg: str) -> str:
    """A drawing as a file of its own: named as SVG, with its style inside."""
    sheet = (HERE / "charts.css").read_text(encoding="utf-8").replace("<", "&lt;")
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{sheet}</style>{rest}'
