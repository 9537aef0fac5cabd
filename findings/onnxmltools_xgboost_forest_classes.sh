#!/usr/bin/env bash
# onnxmltools 1.16.0 (XGBoost 3.2.0, ONNX Runtime 1.32.0): a forest of XGBoost for three classes converts to one that
# guesses.
#
# Boosting adds a tree for class 0, one for class 1, one for class 2, and so on; with num_parallel_tree = k, as
# XGBRFClassifier has it, k trees of class 0 come first. convert_xgboost gives the i-th tree to class i modulo the
# number of classes whatever k is, so that each class gets trees of all of them. The model passes the checker and there
# is no warning. Plain boosting is right, and so is a forest for two classes, whose trees have no class.
#
# Seen, largest difference of a probability, and accuracy before and after: "boosting 0.000 0.959 0.959", "forest, 2
# classes 0.000 0.930 0.930", "forest 0.489 0.917 0.340", "boosted forests 0.472 0.949 0.935". The script fails if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnxmltools==1.16.0 skl2onnx==1.20.0 xgboost-cpu==3.2.0 onnx==1.23.2 \
    onnxruntime==1.32.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
import onnx
import onnxmltools
import onnxruntime
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import make_classification
from xgboost import XGBClassifier, XGBRFClassifier

onnxruntime.set_default_logger_severity(3)
X, y = make_classification(
    1500, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0
)
X, binary = X.astype(np.float32), (y == 0).astype(int)
forests = XGBClassifier(n_estimators=10, num_parallel_tree=4, subsample=0.7, random_state=0)
cases = {
    "boosting": (XGBClassifier(n_estimators=10), y),
    "forest, 2 classes": (XGBRFClassifier(n_estimators=39, random_state=0), binary),
    "forest": (XGBRFClassifier(n_estimators=39, random_state=0), y),
    "boosted forests": (forests, y),
}
off, lost = {}, {}
for name, (model, labels) in cases.items():
    model.set_params(n_jobs=1).fit(X, labels)
    converted = onnxmltools.convert_xgboost(
        model, initial_types=[("x", FloatTensorType([None, 6]))]
    )
    onnx.checker.check_model(converted)
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    label, probability = session.run(None, {"x": X})
    off[name] = np.abs(probability - model.predict_proba(X)).max()
    before, after = model.score(X, labels), np.mean(label == labels)
    lost[name] = before - after
    print(f"{name} {off[name]:.3f} {before:.3f} {after:.3f}")
assert max(off["boosting"], off["forest, 2 classes"]) < 1e-5
assert min(off["forest"], off["boosted forests"]) > 0.3 and lost["forest"] > 0.4
PY
