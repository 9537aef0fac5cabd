"""Write the map of docs/choose.rst, ``_static/map.html``: ``python docs/map.py``.

Lists of links set into the page; ``_static/reading.css`` makes boxes of them, which wrap
on narrow screens.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parent
API = "api/skquee."

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


def draw() -> str:
    """Return the map: of each band a title and a list, of each choice what is said and a link."""
    parts = []
    for i, (title, asked, choices) in enumerate(BANDS, start=1):
        boxes = "\n".join(
            f'<li>{escape(said)}<a href="{link}">{escape(take, quote=False)}</a></li>'
            for said, take, link in choices
        )
        parts.append(
            f"<p><strong>{i}. {title}</strong> {escape(asked)}</p>\n<ul>\n{boxes}\n</ul>\n"
        )
    label = "Which router, answer, budget and guarantee to take; the tables below say the same"
    return f'<div class="map" role="group" aria-label="{label}">\n' + "".join(parts) + "</div>\n"


if __name__ == "__main__":
    (DOCS / "_static" / "map.html").write_text(draw(), encoding="utf-8")
