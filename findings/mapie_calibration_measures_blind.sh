#!/usr/bin/env bash
# MAPIE 1.6.0 (scikit-learn 1.9.1): two of its measures of calibration find nothing wrong with what is badly calibrated.
#
# expected_calibration_error(split_strategy="array split") takes the largest score of each part of the rows, as they
# stand, for the edges of its bins, without sorting them: of rows in random order each part holds a score next to 1,
# nearly all rows fall into the first bin, and what is left of the error is the difference of two means. Of
# probabilities turned upside down that is 0; of the same rows sorted by score it is right. spiegelhalter_p_value is of
# one side: scores that are not sure enough are never found, and most get more than 0.95. Both sides of its statistic
# find them.
#
# Seen: "upside down: uniform 0.493, quantile 0.492, array split 0.002, sorted 0.497"; of 200 samples of 1,000 rows,
# those found at 5 % by the p-value and by both sides: "calibrated 0.04 and 0.03, too sure 0.71 and 0.63, not sure
# enough 0.00 and 0.65". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q mapie==1.6.0 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
from mapie.metrics import calibration
from scipy.stats import norm

rng = np.random.default_rng(0)
score = rng.random(20_000)
y = (rng.random(20_000) < 1 - score).astype(int)
ece = {}
for name, rows, strategy in (
    ("uniform", slice(None), "uniform"),
    ("quantile", slice(None), "quantile"),
    ("array split", slice(None), "array split"),
    ("sorted", np.argsort(score), "array split"),
):
    ece[name] = calibration.expected_calibration_error(
        y[rows], score[rows], num_bins=10, split_strategy=strategy
    )
print("upside down:", ", ".join(f"{name} {value:.3f}" for name, value in ece.items()))

found = {}
for name, slope in (("calibrated", 1.0), ("too sure", 0.7), ("not sure enough", 1.3)):
    p_values = np.empty((200, 2))
    for pair in p_values:
        score = 0.3 + 0.4 * rng.random(1000)
        y = (rng.random(1000) < 0.5 + slope * (score - 0.5)).astype(int)
        both = 2 * norm.sf(abs(calibration.spiegelhalter_statistic(y, score)))
        pair[:] = calibration.spiegelhalter_p_value(y, score), both
    found[name] = np.mean(p_values < 0.05, axis=0)
    print(f"{name} {found[name][0]:.2f} and {found[name][1]:.2f}")
assert ece["array split"] < 0.01 and min(ece["uniform"], ece["quantile"], ece["sorted"]) > 0.45
assert max(found["calibrated"]) < 0.1 and found["not sure enough"][0] < 0.01
assert min(*found["too sure"], found["not sure enough"][1]) > 0.5
PY
