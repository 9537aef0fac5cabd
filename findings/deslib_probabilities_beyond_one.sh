#!/usr/bin/env bash
# deslib 0.3.7 (scikit-learn 1.5.2): with mode="weighting" four of its methods answer probabilities such as 464.
#
# DESKL, Exponential, Logarithmic and MinimumDifference weigh each classifier's vote by its competence, which is
# negative where it is worse than chance. The votes of a row are divided by the sum of these weights, which may come
# close to 0 or below it: predict_proba leaves 0 to 1, while each row still sums to 1, which is what most check. A
# threshold of confidence takes those rows for the surest ones, and they are about the worst. RRC and DESP, whose
# competences are not negative, are right, and so is the default, mode="selection".
#
# Seen, smallest and largest probability, rows beyond 0 to 1 of 2,000, accuracy of the 100 surest rows: "DESP 0.0 1.0 0
# 0.95", "RRC 0.0 1.0 0 0.93", "DESKL -21.8 22.8 63 0.82", "Exponential -52.4 53.4 175 0.60", "Logarithmic" and
# "MinimumDifference -463.5 464.5 181 0.50", where all rows have 0.86. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q deslib==0.3.7 scikit-learn==1.5.2 scipy==1.13.1 numpy==1.26.4
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
from deslib.des import DESKL, DESP, RRC, Exponential, Logarithmic, MinimumDifference
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier
from sklearn.tree import DecisionTreeClassifier

X, y = make_classification(4000, 8, n_informative=6, n_redundant=0, random_state=0)
train, choose, test = slice(0, 1000), slice(1000, 2000), slice(2000, 4000)
pool = BaggingClassifier(DecisionTreeClassifier(max_depth=4), 20, random_state=0)
pool.fit(X[train], y[train])
beyond, surest = {}, {}
for kind in (DESP, RRC, DESKL, Exponential, Logarithmic, MinimumDifference):
    for mode in ("selection", "weighting"):
        model = kind(pool, mode=mode, random_state=0).fit(X[choose], y[choose])
        p = model.predict_proba(X[test])
        assert np.allclose(p.sum(axis=1), 1)
        beyond[kind, mode] = np.sum(np.any((p < 0) | (p > 1), axis=1))
        right = model.predict(X[test]) == y[test]
    surest[kind] = right[np.argsort(-p.max(axis=1), kind="stable")[:100]].mean()
    found = f"{p.min():.1f} {p.max():.1f} {beyond[kind, mode]} {surest[kind]:.2f}"
    print(f"{kind.__name__} {found}, all {right.mean():.2f}")
assert all(count == 0 for (kind, mode), count in beyond.items() if mode == "selection")
assert beyond[DESP, "weighting"] == beyond[RRC, "weighting"] == 0
for kind in (DESKL, Exponential, Logarithmic, MinimumDifference):
    assert beyond[kind, "weighting"] > 5
assert min(surest[RRC], surest[DESP]) > 0.9 and max(surest[Exponential], surest[Logarithmic]) < 0.7
PY
