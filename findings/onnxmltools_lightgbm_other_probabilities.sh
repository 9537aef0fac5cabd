#!/usr/bin/env bash
# onnxmltools 1.16.0 (LightGBM 4.7.0, ONNX Runtime 1.32.0): three kinds of LGBMClassifier convert to other
# probabilities, one of them to other labels.
#
# convert_lightgbm puts a softmax behind every objective that begins with "multiclass", also behind "multiclassova",
# whose classes have a sigmoid each; a plain sigmoid behind every binary one, whatever LightGBM's parameter `sigmoid`
# is. For boosting_type="rf" LightGBM takes the mean of the trees and then the sigmoid; the converted model takes the
# sigmoid of their sum and divides that by 100, whatever their number, so that each row gets the first class with 0.99
# or more. There is no warning, the model passes the checker, and boosting with the usual settings is right.
#
# Seen, largest difference of a probability and share of labels moved: "usual 0.000 0.000", "multiclassova 0.305 0.000",
# "sigmoid=2 0.150 0.000", "rf 0.900 0.333". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnxmltools==1.16.0 skl2onnx==1.20.0 lightgbm==4.7.0 onnx==1.23.2 \
    onnxruntime==1.32.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime
import onnxmltools
from lightgbm import LGBMClassifier
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import make_classification

onnxruntime.set_default_logger_severity(3)
X, y = make_classification(
    1500, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0
)
X = X.astype(np.float32)
cases = {
    "usual": (y, {}),
    "multiclassova": (y, {"objective": "multiclassova"}),
    "sigmoid=2": (y == 0, {"sigmoid": 2.0}),
    "rf": (y == 0, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
}
off, moved = {}, {}
for name, (labels, options) in cases.items():
    model = LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1, **options)
    model.fit(X, labels.astype(int))
    converted = onnxmltools.convert_lightgbm(
        model, initial_types=[("x", FloatTensorType([None, 6]))], zipmap=False
    )
    onnx.checker.check_model(converted)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    label, probability = session.run(None, {"x": X})
    off[name] = np.abs(probability - model.predict_proba(X)).max()
    moved[name] = np.mean(label.ravel() != model.predict(X))
    print(f"{name} {off[name]:.3f} {moved[name]:.3f}")
assert off["usual"] < 1e-5
assert min(off["multiclassova"], off["sigmoid=2"], off["rf"]) > 0.1
assert moved["usual"] == moved["multiclassova"] == moved["sigmoid=2"] == 0 and moved["rf"] > 0.2
PY
