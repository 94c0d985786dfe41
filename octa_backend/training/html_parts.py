"""What the reports' pages are made of: one self-contained page, sections, tables, texts in both languages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from octa_backend.training.evaluation_words import Words
from octa_backend.training.scan_metrics import DISTANCES, VOLUMES

NONE = "–"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; max-width: 76rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.zh { opacity: .65; font-weight: normal; font-size: .88em; margin-left: .45em; }
.wide { overflow-x: auto; } .wide td { white-space: nowrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { vertical-align: bottom; } thead .zh { display: block; margin: 0; }
.facts td { text-align: left; } .facts td:last-child { overflow-wrap: anywhere; min-width: 10rem; }
.facts td:not(:first-child, :last-child) { overflow-wrap: anywhere; min-width: 3.5rem; }
.note { border-left: 4px solid #e07b00; padding: .3rem .8rem; margin: .5rem 0; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts svg { width: 24rem; max-width: 100%; }
svg text { font-size: 11px; fill: currentColor; } svg text.title { font-size: 13px; font-weight: 600; }
.config { overflow-wrap: anywhere; opacity: .75; font-size: .88em; }
figure { margin: 1rem 0; } figure img { width: 60rem; max-width: 100%; image-rendering: pixelated;
                                  border: 1px solid var(--line); }
.swatch { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
@media (max-width: 40rem) { th, td { padding: .25rem .35rem; } .wide td .zh { display: block; margin: 0; } }
""".strip()


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page. Nothing is loaded from anywhere: the page's own policy forbids it. Empty sections are left out."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{_STYLE}\n</style>\n</head>\n<body>\n" + "\n".join(filter(None, sections)) + "\n</body>\n</html>\n"
    )


def both(words: Words, addition: str = "") -> str:
    """A text in English and Chinese, with something behind it that is the same in both."""
    more = f" ({escape(addition)})" if addition else ""
    return f'{escape(words.en)}{more}<span class="zh" lang="zh">{escape(words.zh)}</span>'


def plain(words: Words) -> str:
    """A text in both languages where no element may stand."""
    return f"{words.en} {words.zh}"


def section(heading: Words, content: str, addition: str = "") -> str:
    """A heading and what stands below it."""
    return f"<section>\n<h2>{both(heading, addition)}</h2>\n{content}\n</section>"


def note(words: Words) -> str:
    """A sentence that a reader must not miss."""
    return f'<p class="note">{both(words)}</p>'


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already."""
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def facts(rows: Iterable[Iterable[str]]) -> str:
    """A table of names and what belongs to them; its cells are HTML already."""
    lines = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="facts"><tbody>\n{lines}\n</tbody></table>'


def shown(name: str, value: float | None) -> str:
    """A metric as people read it: shares with four digits; lengths and volumes with two, small ones with three that say
    something, because a voxel may measure thousandths of a millimetre."""
    if value is None:
        return NONE
    if name not in (*DISTANCES, *VOLUMES):
        return f"{value:.4f}"
    first = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(2, 2 - first)}f}"
