"""Other engines answer as the float network does, at any batch size, or say what they lack."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer

from skquee.networks import HeadTrainer, MultiExitNetwork, train_backbone
from skquee.networks.backbones._t2t_vit import T2TViT
from skquee.speed._engines import external_engines

NAMES = {
    "ONNX Runtime, int8 dynamic": ("onnx", "onnxscript", "onnxruntime"),
    "ONNX Runtime, int8 static": ("onnx", "onnxscript", "onnxruntime"),
    "OpenVINO, bf16": ("openvino",),
    "OpenVINO, int8": ("openvino", "nncf"),
}
PACKAGES = sorted({package for packages in NAMES.values() for package in packages})


def absent(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


needs = pytest.mark.skipif(
    all(absent(*packages) for packages in NAMES.values()),
    reason=f"no other engine is installed, which take {', '.join(PACKAGES)}",
)


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8) / 16
    rows = np.random.default_rng(0).permutation(len(y))
    return {"train": (X[rows[:900]], y[rows[:900]]), "test": (X[rows[900:]], y[rows[900:]])}


@pytest.fixture(scope="module")
def network(digits: Any) -> MultiExitNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, embed_dim=32, depth=2, num_heads=2, num_classes=10
        )
    train_backbone(backbone, *digits["train"], epochs=8, random_state=0)
    network = MultiExitNetwork(
        backbone, exits=(1, 2), trainer=HeadTrainer(max_epochs=2), random_state=0, device="cpu"
    )
    return network.fit(*digits["train"], validation_data=digits["test"])


@pytest.fixture(scope="module")
def built(network: Any, digits: Any) -> tuple[dict[str, Any], dict[str, str]]:
    return external_engines(network, digits["train"][0])


def float_answers(network: Any, state: torch.Tensor) -> np.ndarray:
    last = len(network.float_blocks) - 1
    with torch.no_grad():
        for block in network.float_blocks:
            state = block(state)
    return network.head(state, last, None)


@needs
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_answers_as_the_float_network(
    network: Any, digits: Any, built: Any, name: str
) -> None:
    runs, missing = built
    if name in missing:
        pytest.skip(missing[name])
    X, y = digits["test"]
    images = network.start(X)
    expected, got = float_answers(network, images), runs[name](images)
    assert got.shape == expected.shape and got.dtype == np.float32
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-2)
    distance = np.abs(got - expected).sum(axis=1) / 2
    assert distance.mean() < 0.05, "rounding to 8 bits moves little probability"
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    accuracy = [(network.classes_[p.argmax(axis=1)] == y).mean() for p in (got, expected)]
    assert accuracy[0] > accuracy[1] - 0.03 and accuracy[1] > 0.5


@needs
@pytest.mark.parametrize("n_rows", [1, 3, 64, 300])
def test_batches_of_any_size_give_each_row_its_answer(
    network: Any, digits: Any, built: Any, n_rows: int
) -> None:
    images = network.start(digits["test"][0][:n_rows])
    expected = float_answers(network, images)
    for name, run in built[0].items():
        got = run(images.numpy())
        assert got.shape == (n_rows, 10), name
        assert np.abs(got - expected).sum(axis=1).mean() / 2 < 0.05, name
        np.testing.assert_array_equal(got, run(images), err_msg=name)


@needs
def test_the_network_is_left_as_it_was(network: Any, digits: Any) -> None:
    modes = [module.training for module in network.float_blocks.modules()]
    grads = [p.requires_grad for p in network.float_blocks.parameters()]
    names = ("PATH", "HOME", "ORT_DISABLE_TELEMETRY", "CI")
    environment = {name: os.environ.get(name) for name in names}
    runs, missing = external_engines(network, digits["train"][0][:16], threads=2)
    assert set(runs) | set(missing) == set(NAMES) and not set(runs) & set(missing)
    assert modes == [module.training for module in network.float_blocks.modules()]
    assert grads == [p.requires_grad for p in network.float_blocks.parameters()]
    assert environment == {name: os.environ.get(name) for name in names}
    assert sys.modules.get("openvino_telemetry", 0) is not None


@needs
def test_more_rows_than_tokens_of_a_performer_are_answered_right() -> None:
    # OpenVINO gets these wrong in one batch, and onnxscript drops the 1e-8 of the Performer,
    # which keys as large as these need.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = T2TViT(img_size=32, depth=1, embed_dim=32, num_heads=2, num_classes=3)
        images = torch.randn(100, 3, 32, 32)
    tokens = backbone.tokens_to_token
    with torch.no_grad():
        for layer in (tokens.attention1, tokens.attention2):
            layer.kqv.weight *= 4
    y = np.arange(100) % 3
    network = MultiExitNetwork(
        backbone, exits=(1,), trainer=HeadTrainer(max_epochs=2), random_state=0, device="cpu"
    )
    network.fit(images, y, validation_data=(images, y))
    runs, missing = external_engines(network, images)
    known = ("not installed", "this CPU has no bfloat16")
    assert not [r for r in missing.values() if not any(words in r for words in known)]
    expected = float_answers(network, images)
    for name, run in runs.items():
        assert np.abs(run(images) - expected).sum(axis=1).mean() / 2 < 0.05, name


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_not_installed_is_named_with_the_engines_that_need_it(
    network: Any, digits: Any, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    load = importlib.import_module

    def without(name: str, *arguments: Any) -> ModuleType:
        if name.partition(".")[0] in PACKAGES and (name == package or absent(name)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", without)
    runs, missing = external_engines(network, digits["train"][0][:16])
    assert set(runs) | set(missing) == set(NAMES)
    for name, packages in NAMES.items():
        if package in packages and not absent(*packages):
            assert missing[name].startswith(f"{package} is not installed: pip install")


def test_wrong_arguments_are_told(network: Any, digits: Any) -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        external_engines(network, digits["train"][0], threads=0)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        external_engines(network, digits["train"][0][:1])


@needs
def test_no_engine_leaves_an_identity_in_the_home_folder(tmp_path: Path) -> None:
    code = (
        "import contextlib, importlib\n"
        "from skquee.speed._engines import _quiet\n"
        "with _quiet():\n"
        f"    for name in {PACKAGES}:\n"
        "        with contextlib.suppress(ModuleNotFoundError):\n"
        "            importlib.import_module(name)\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    run = [sys.executable, "-c", code]
    subprocess.run(run, env=environment, check=True, cwd=Path(__file__).resolve().parents[2])
    left = {path.name.lower() for path in tmp_path.rglob("*")}
    assert not {"intel", "microsoft", "openvino_ga_cid", "deviceid"} & left
