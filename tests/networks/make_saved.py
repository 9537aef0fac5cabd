"""Write the small network in tests/networks/saved that later releases have to read.

Run it from the root of the repository, only where no earlier release can be met:
``python tests/networks/make_saved.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from skquee import MultiPathClassifierBank
from skquee.networks import HeadTrainer, MultiExitNetwork, UniformPTQ

FOLDER = Path(__file__).parent / "saved"
N_ROWS = 8


def main() -> None:
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 8, 8, 1) / 16
    network = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        img_size=8,
        in_chans=1,
        backbone_kwargs={
            "patch_size": 4,
            "depth": 2,
            "embed_dim": 8,
            "num_heads": 2,
            "num_classes": 10,
        },
        trainer=HeadTrainer(max_epochs=5),
        random_state=0,
    ).fit(images[:400], y[:400])
    network.quantize((4, 8), calibration=images[:32], method=UniformPTQ())
    network.save(FOLDER / "network")
    table = np.asarray(MultiPathClassifierBank(network).transform(images[:N_ROWS]))
    answers = {"names": network.paths_.names, "table": table.astype(float).round(7).tolist()}
    (FOLDER / "answers.json").write_text(json.dumps(answers), encoding="utf8")


if __name__ == "__main__":
    main()
