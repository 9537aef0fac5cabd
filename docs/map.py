"""Draw the map of docs/choose.rst, ``_static/map.svg``: ``python docs/map.py``.

Plain SVG set into the page, so that boxes are links, text is text, and colours are the theme's.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parent
API = "api/skquee."
WIDTH, BOX, GAP, TOP, HEIGHT = 800, 150, 7, 34, 118

# Of each band: its title, its question, and (what the reader says, what to take, where that is).
BANDS = [
    (
        "Router",
        "What do you have?",
        [
            ("models and raw rows", "RoutedClassifier", f"{API}RoutedClassifier.html"),
            ("a table", "default_router", f"{API}router.default_router.html"),
            ("the paper's method", "CostAwareRouter", f"{API}CostAwareRouter.html"),
            ("minutes to search", "AutoRouter", f"{API}AutoRouter.html"),
            ("no time for gates", "ThresholdRouter", f"{API}baselines.ThresholdRouter.html"),
        ],
    ),
    (
        "Answer",
        "Who answers at the end?",
        [
            ("dearer is better", '"last"', "family.html"),
            ("good at different rows", '"recall"', f"{API}answers.RecallAnswer.html"),
            ("independent errors", '"ensemble"', f"{API}answers.EnsembleAnswer.html"),
        ],
    ),
    (
        "Budget",
        "What do you know?",
        [
            ("a price for errors", "lambda_", "faq.html#why-is-lambda-not-a-probability"),
            ("a mean cost", "at_budget", "budgets.html"),
            ("a cap for every row", "max_cost_per_sample", "budgets.html"),
            ("the accuracy needed", "at_accuracy", f"{API}RoutedClassifier.html"),
            (
                "a stream that shifts",
                "OnlineLambdaRouter",
                f"{API}monitoring.OnlineLambdaRouter.html",
            ),
        ],
    ),
    (
        "Guarantee",
        "What must not happen? More errors ...",
        [
            ("than the whole model", "max_error_increase", "guarantees.html"),
            ("than a limit", "max_error", "guarantees.html"),
            ("or other answers", "max_disagreement", "guarantees.html"),
            ("or drift unnoticed", "RouteMonitor", f"{API}monitoring.RouteMonitor.html"),
        ],
    ),
]
STYLE = """
.map { min-width: 660px; width: 100%; height: auto; font-family: inherit; }
.map text { fill: currentColor; text-anchor: middle; font-size: 12.5px; }
.map .title { font-size: 16px; font-weight: 600; text-anchor: start; }
.map .asked { text-anchor: start; opacity: 0.85; }
.map .take { font-weight: 600; font-size: 12px; fill: var(--pst-color-link, #0a7d91); }
.map rect { fill: none; stroke: currentColor; stroke-opacity: 0.45; }
.map a rect { stroke: var(--pst-color-link, #0a7d91); stroke-opacity: 1; }
.map a:hover rect, .map a:focus rect { stroke-width: 3; }
.map path { fill: none; stroke: currentColor; stroke-opacity: 0.45; }
"""


def box(x: float, y: float, said: str, take: str, link: str) -> str:
    """Return one choice: what the reader says, an arrow, and a box that is a link."""
    middle = x + BOX / 2
    return (
        f'<text x="{middle}" y="{y}">{escape(said)}</text>'
        f'<path d="M{middle} {y + 7} v12 m-4 -5 l4 5 l4 -5"/>'
        f'<a href="{link}" aria-label="{escape(said, {chr(34): "&quot;"})}: '
        f'{escape(take, {chr(34): "&quot;"})}">'
        f'<rect x="{x}" y="{y + 22}" width="{BOX}" height="32" rx="6"/>'
        f'<text class="take" x="{middle}" y="{y + 43}">{escape(take)}</text></a>'
    )


def draw() -> str:
    """Return the map."""
    parts = []
    for i, (title, asked, choices) in enumerate(BANDS):
        y = 10 + i * HEIGHT
        parts.append(
            f'<g role="group" aria-label="{title}: {asked}">'
            f'<text class="title" x="8" y="{y + 14}">{i + 1}. {title}</text>'
            f'<text class="asked" x="134" y="{y + 14}">{asked}</text>'
        )
        step = BOX + GAP
        for k, choice in enumerate(choices):
            parts.append(box(8 + k * step, y + TOP + 4, *choice))
        parts.append("</g>")
        if i:
            parts.append(f'<path d="M8 {y - 6} H{WIDTH - 8}"/>')
    height = 10 + len(BANDS) * HEIGHT - 14
    return (
        '<div style="overflow-x: auto"><svg class="map" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH} {height}" role="group" aria-labelledby="map-title">'
        '<title id="map-title">Which router, answer, budget and guarantee to take; '
        "each box leads to its page, and the tables below say the same</title>"
        f"<style>{STYLE}</style>" + "\n".join(parts) + "</svg></div>\n"
    )


if __name__ == "__main__":
    (DOCS / "_static" / "map.svg").write_text(draw(), encoding="utf-8")
