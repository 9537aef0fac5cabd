#!/usr/bin/env bash
# skl2onnx 1.20.0 (scikit-learn 1.9.1, ONNX Runtime 1.32.0): a tuned threshold is lost in conversion, isotonic
# calibration becomes a staircase, and near neighbours weigh what far ones do.
#
# A converted TunedThresholdClassifierCV is the classifier inside it: it decides at 1/2 whatever threshold was found, so
# that the rare class it was tuned for is missed as before. IsotonicRegression interpolates between its points; the
# converted CalibratedClassifierCV takes the nearest point's value. KNeighborsClassifier(weights="distance") answers
# with the plain shares of its neighbours. Nothing is said; sigmoid calibration and equal weights are right.
#
# Seen, largest difference of a probability, and recall of the rare class before and after: "threshold 0.000 0.628
# 0.544", "isotonic 0.121 0.454 0.454", "distance 0.156 0.535 0.532", "sigmoid 0.000 0.448 0.448", "uniform 0.000 0.532
# 0.532". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 scikit-learn==1.9.1 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import numpy as np
import onnxruntime
import skl2onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

onnxruntime.set_default_logger_severity(3)
X, y = make_classification(
    4000, 6, n_informative=5, n_redundant=0, weights=[0.9], flip_y=0.05, random_state=0
)
X, test = X.astype(np.float32), slice(1000, None)
rare = y[test] == 1
options = {"ensemble": False}
models = {
    "threshold": TunedThresholdClassifierCV(LogisticRegression()),
    "isotonic": CalibratedClassifierCV(GaussianNB(), method="isotonic", **options),
    "distance": KNeighborsClassifier(weights="distance"),
    "sigmoid": CalibratedClassifierCV(GaussianNB(), method="sigmoid", **options),
    "uniform": KNeighborsClassifier(),
}
off, recall = {}, {}
for name, model in models.items():
    model.fit(X[:1000], y[:1000])
    converted = skl2onnx.to_onnx(model, X[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(converted.SerializeToString())
    label, probability = session.run(None, {"X": X[test]})
    off[name] = np.abs(probability - model.predict_proba(X[test])).max()
    recall[name] = model.predict(X[test])[rare].mean(), label[rare].mean()
    print(f"{name} {off[name]:.3f} {recall[name][0]:.3f} {recall[name][1]:.3f}")
assert max(off["threshold"], off["sigmoid"], off["uniform"]) < 1e-5
assert recall["threshold"][0] - recall["threshold"][1] > 0.05
assert off["isotonic"] > 0.05 and off["distance"] > 0.1
PY
