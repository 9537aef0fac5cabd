#!/usr/bin/env bash
# skops 0.15.0: gradient boosting dumped under scikit-learn 1.6.1 cannot be loaded under 1.9.1,
# while what 1.9.1 dumps loads under 1.6.1.
#
# A skops file names each class by its __module__. The compiled loss of GradientBoosting* and
# HistGradientBoosting* said "_loss", no package before it, in scikit-learn 1.6, and says
# "sklearn._loss._loss" since. No module "_loss" can be imported, so the file of the older version is lost
# to the newer one whatever is trusted; and a list of trusted types made with one version lacks the name
# that the other writes. Forests and linear models do not hold a loss.
#
# Seen: "ModuleNotFoundError: No module named '_loss'" for both kinds of boosting one way, an answer the
# other way. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv older
python3 -m venv newer
older/bin/pip install -q scikit-learn==1.6.1 skops==0.15.0 numpy==2.0.2 scipy==1.13.1
newer/bin/pip install -q scikit-learn==1.9.1 skops==0.15.0 numpy==2.4.6
cat >dump.py <<'PYTHON'
import sys

import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier

X, y = load_iris(return_X_y=True)
for kind in (GradientBoostingClassifier, HistGradientBoostingClassifier):
    skops.io.dump(kind().fit(X, y > 0), f"{sys.argv[1]}_{kind.__name__}.skops")
PYTHON
cat >load.py <<'PYTHON'
import sys

import skops.io

for file in sys.argv[1:]:
    trusted = skops.io.get_untrusted_types(file=file)
    try:
        answer = skops.io.load(file, trusted=trusted).predict([[5.1, 3.5, 1.4, 0.2]])
        print(f"{file}: answers {answer}")
    except ModuleNotFoundError as error:
        print(f"{file}: {type(error).__name__}: {error}")
PYTHON
older/bin/python dump.py older
newer/bin/python dump.py newer
{
    newer/bin/python -W ignore load.py older_*.skops
    older/bin/python -W ignore load.py newer_*.skops
} | tee seen
[ "$(grep -c "older_.*ModuleNotFoundError: No module named '_loss'" seen)" = 2 ]
[ "$(grep -c "newer_.*: answers" seen)" = 2 ]
