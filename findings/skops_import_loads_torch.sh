#!/usr/bin/env bash
# skops 0.16.0 with scikit-learn 1.9.1: `import skops.io` imports torch wherever it is installed.
#
# skops.io lists what it trusts by sklearn.utils.discovery.all_estimators(), which walks every package
# of scikit-learn and imports each, sklearn.externals.array_api_compat.torch among them, and that one
# imports torch (the same for cupy and dask). Reading or writing one small file thus takes what loading
# torch takes, about 2 s of CPU and 500 MiB, although nothing in the file has to do with it.
# A stand-in for torch that tells of its import shows it without the download.
#
# Seen: "torch was imported". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q skops==0.16.0 scikit-learn==1.9.1 numpy==2.4.6
mkdir "$folder/path"
printf 'print("torch was imported")\nraise ImportError("only a stand-in")\n' >"$folder/path/torch.py"
PYTHONPATH="$folder/path" "$folder/env/bin/python" -W ignore -c "import skops.io" | tee "$folder/seen"
grep -q "torch was imported" "$folder/seen"
