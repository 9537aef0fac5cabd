#!/usr/bin/env bash
# distributed 2026.8.0, NumPy 2.4.6: arrays come to a worker between words of memory, and sum to other last bits.
#
# A worker's array is a view of the message that brought it. Where its numbers begin depends on how long the rest
# of the message is, and arr.flags.aligned is mostly False. NumPy sums all of such an array through a buffer, in
# another order than an aligned one: of the same numbers the worker's sum differs from the client's, and may from
# one message to the next. A copy made in the worker is aligned and sums as at home.
#
# Seen: "8 of 8 arrays unaligned, 4 of them with other sums, 0 of their copies", as float32 139876.61 at home and
# 139876.58 in the worker. The script fails if that changes (if none is unaligned, or none has another sum).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q distributed==2026.8.0 dask==2026.8.0 numpy==2.4.6
cat >"$folder/sums.py" <<'PY'
import numpy as np
from distributed import Client, LocalCluster


def sums(x):
    return x.flags.aligned, float(x.sum()), float(x.copy().sum())


if __name__ == "__main__":
    unaligned = other = copies = 0
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        for kind in (np.float64, np.float32):
            for n_rows in (10_000, 20_000, 40_000, 80_000):
                x = np.random.default_rng(0).random((n_rows, 7)).astype(kind)
                aligned, there, copied = client.submit(sums, client.scatter(x)).result()
                here = float(x.sum())
                unaligned += not aligned
                other += there != here
                copies += copied != here
    print(f"{unaligned} of 8 arrays unaligned, {other} of them with other sums, {copies} of their copies")
    assert unaligned and other and not copies
PY
cd "$folder"
"$folder/env/bin/python" -W ignore sums.py
