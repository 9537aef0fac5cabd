#!/usr/bin/env bash
# skops 0.16.0 says that prettytable 3.9 will do; skops.card cannot be imported with less than 3.12.
#
# Its metadata ask for prettytable>=3.9, and skops.card imports TableStyle, which came with prettytable 3.12. Where
# another package holds prettytable back, pip finds nothing wrong, skops.io works, and the first model card
# ends in an ImportError.
#
# Seen: "cannot import name 'TableStyle'" with 3.11.0, none with 3.12.0. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q skops==0.16.0 scikit-learn==1.9.1 numpy==2.4.6 prettytable==3.11.0
"$folder/env/bin/pip" check
"$folder/env/bin/python" -W ignore -c "import skops.io"
! "$folder/env/bin/python" -W ignore -c "import skops.card" 2>"$folder/seen"
tail -1 "$folder/seen"
grep -q "cannot import name 'TableStyle'" "$folder/seen"
"$folder/env/bin/pip" install -q prettytable==3.12.0
"$folder/env/bin/python" -W ignore -c "import skops.card"
