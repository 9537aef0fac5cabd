#!/usr/bin/env bash
# skops 0.16.0: a table added to a model card under "Section/Part" is headed "Section/Part", where a text, a plot or
# metrics added under the same name are headed "Part".
#
# Card.add_table hands the whole name on as the title of the section, Card.add_plot splits it. The section stands in the
# right place, so that select("Section/Part") finds it; setting its title mends the heading.
#
# Seen: headings "## Text", "## Model/Table" and, once the title is set, "## Table". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q skops==0.16.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
from sklearn.linear_model import LogisticRegression
from skops.card import Card

card = Card(LogisticRegression(), template={"Model": "One."}, model_diagram=False)
card.add(**{"Model/Text": "Two."})
card.add_table(**{"Model/Table": {"a": [1]}})


def headings() -> list[str]:
    return [line for line in card.render().splitlines() if line.startswith("##")]


print(headings())
assert headings() == ["## Text", "## Model/Table"]
card.select("Model/Table").title = "Table"
assert headings() == ["## Text", "## Table"]
PY
