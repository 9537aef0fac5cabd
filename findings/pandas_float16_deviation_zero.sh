#!/usr/bin/env bash
# pandas 3.1.1 (NumPy 2.4.6): the standard deviation of a float16 Series of 70,000 values is 0.
#
# Series.std and var of float16 divide by the count of values as a float16. From 65,520 values on that count is
# infinite, and the deviation comes out as 0, without a warning, whatever the values; the mean of the same Series
# is right. numpy.std of the same array says inf once the sum passes 65,504, and numpy.average with float16 weights
# nan.
#
# Seen: "70000 values: pandas std 0, exact 0.288" and "60000 values: pandas std 0.288, exact 0.288". The script
# fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pandas==3.1.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
import pandas as pd

for count, wrong in ((70_000, True), (60_000, False)):
    values = np.random.default_rng(0).random(count).astype(np.float16)
    found, exact = float(pd.Series(values).std()), values.astype(float).std()
    print(f"{count} values: pandas std {found:.3g}, exact {exact:.3f}")
    assert (found == 0) == wrong and abs(found - exact) < 0.01 or wrong
PY
