#!/usr/bin/env bash
# betacal 1.1.0: calibrated by BetaCalibration("ab"), a surer row can get a smaller probability; and a fit
# silences all warnings of the process from then on.
#
# Beta calibration keeps the order of scores where both of its exponents are at least 0. With three parameters, "abm",
# a fit that finds a negative one drops it and fits anew; with two, "ab", it is kept, and the map rises, then falls,
# and ends at 0 for the surest score. Scores too sure of themselves are enough for that. Every fit calls
# warnings.filterwarnings("ignore") and leaves it so: even under -W error nothing of any library is heard after.
#
# Seen, for scores 0.5, 0.9, 0.99 and 1: "ab: 0.50 0.69 0.58 0.00", "abm: 0.12 0.59 0.95 1.00", and "warnings
# heard: 1 before the fit, 0 after". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q betacal==1.1.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" - <<'PY'
import warnings

import numpy as np
from betacal import BetaCalibration

rng = np.random.default_rng(0)
score = rng.random(5000)
log_odds = np.log(score / (1 - score)) - 2  # too sure by 2
y = (rng.random(5000) < 1 / (1 + np.exp(-log_odds))).astype(int)
test = np.array([0.5, 0.9, 0.99, 1.0])


def heard() -> int:
    try:
        warnings.warn("is this heard?", UserWarning)
    except UserWarning:
        return 1
    return 0


warnings.simplefilter("error")
before = heard()
found = {}
for kind in ("ab", "abm"):
    found[kind] = BetaCalibration(kind).fit(score, y).predict(test)
    print(f"{kind}:", *(f"{p:.2f}" for p in found[kind]))
print(f"warnings heard: {before} before the fit, {heard()} after")
assert np.all(np.diff(found["abm"]) > 0)
assert found["ab"][1] > found["ab"][2] > found["ab"][3]
assert before == 1 and heard() == 0
PY
