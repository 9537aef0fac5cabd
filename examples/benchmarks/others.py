"""What other libraries answer to four questions that routing depends on, and what we answer.

``python examples/benchmarks/others.py`` measures what is installed and writes the tables of
``docs/appendix/others.rst``, with versions; no data is needed. Wanted beside the package itself:
``onnx onnxruntime openvino torchao``, ``fvcore thop ptflops torchinfo``, ``torchmetrics netcal
mapie uncertainty-calibration relplot``, ``pandas``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "appendix" / "others.rst"
Rows = list[tuple[str, ...]]


def asked(rows: Rows, name: str, package: str, call: Callable[[], tuple[str, ...]]) -> None:
    """Add what a library answers, quietly; print and leave out one that is absent or fails."""
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            answer = call()
        rows.append((name, f"{package} {version(package)}".strip(), *answer))
    except Exception as error:
        print(f"left out: {name}: {error!r}")


# A row beside an outlier --------------------------------------------------------------------


def outlier_table() -> Rows:
    """Return how far a layer's answer to a row moves beside a row 100 times as large."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32).eval()
    seen = torch.randn(8, 64)
    row, exact = seen[:1], None
    beside = torch.cat([row, 100 * torch.randn(1, 64)])
    with torch.inference_mode():
        exact = layer(row).numpy()
    folder = tempfile.mkdtemp()
    rows: Rows = [("How", "Version", "Moves by", "Error alone")]

    def moves(
        make: Callable[[], Callable[[torch.Tensor], object]],
    ) -> Callable[[], tuple[str, str]]:
        def measured() -> tuple[str, str]:
            with torch.inference_mode():
                call = make()
                alone, both = np.asarray(call(row)), np.asarray(call(beside))[:1]
            size = np.abs(exact).max()
            return tuple(
                f"{100 * np.abs(a - b).max() / size:.1f} %"
                for a, b in ((both, alone), (alone, exact))
            )

        return measured

    def torch_dynamic():
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})
        return lambda x: quantised(x).numpy()

    def torchao_dynamic():
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        model = nn.Sequential(copy.deepcopy(layer))
        quantize_(model, Int8DynamicActivationInt8WeightConfig())
        return lambda x: model(x).numpy()

    def onnx_file() -> str:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        weights = layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy()
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "W"], ["h"]),
                helper.make_node("Add", ["h", "b"], ["y"]),
            ],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
            [numpy_helper.from_array(w, n) for w, n in zip(weights, "Wb", strict=True)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, f"{folder}/linear.onnx")
        return f"{folder}/linear.onnx"

    def onnx_dynamic(**options):
        import onnxruntime
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(onnx_file(), f"{folder}/dynamic.onnx", **options)
        session = onnxruntime.InferenceSession(f"{folder}/dynamic.onnx")
        return lambda x: session.run(None, {"x": x.numpy()})[0]

    def onnx_static():
        import onnxruntime
        from onnxruntime.quantization import CalibrationDataReader, quantize_static

        class Reader(CalibrationDataReader):
            left = [{"x": seen.numpy()}]

            def get_next(self):
                return self.left.pop() if self.left else None

        file = f"{folder}/static.onnx"
        quantize_static(onnx_file(), file, Reader(), extra_options={}, reduce_range=True)
        session = onnxruntime.InferenceSession(file)
        return lambda x: session.run(None, {"x": x.numpy()})[0]

    def openvino_groups():
        import openvino as ov
        from openvino import opset13 as op

        scale = layer.weight.detach().abs().amax(1, keepdim=True) / 127
        codes = (layer.weight.detach() / scale).round().to(torch.int8).numpy()
        x = op.parameter([-1, 64], np.float32, name="x")
        weight = op.multiply(op.convert(op.constant(codes), np.float32), op.constant(scale.numpy()))
        product = op.matmul(x, weight, False, True)
        y = op.add(product, op.constant(layer.bias.detach().numpy()))
        options = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = ov.compile_model(ov.Model([y], [x]), "CPU", options)
        return lambda x: compiled(x.numpy())[0]

    def ours():
        from skquee.networks.engines import Int8Linear

        quantised = Int8Linear(layer, (float(seen.min()), float(seen.max())))
        return lambda x: quantised(x).numpy()

    for name, package, make in (
        ("torch, float32", "torch", lambda: lambda x: layer(x).numpy()),
        ("torch, dynamic int8", "torch", torch_dynamic),
        ("torchao, dynamic int8, a scale a row", "torchao", torchao_dynamic),
        ("ONNX Runtime, dynamic int8", "onnxruntime", onnx_dynamic),
        (
            "ONNX Runtime, dynamic int8, ``reduce_range``",
            "onnxruntime",
            lambda: onnx_dynamic(reduce_range=True),
        ),
        ("ONNX Runtime, static int8, ``reduce_range``", "onnxruntime", onnx_static),
        ("OpenVINO, int8 weights, inputs by groups of 64", "openvino", openvino_groups),
        ("skquee, :class:`Int8Linear <skquee.networks.engines.Int8Linear>`", "skquee", ours),
    ):
        asked(rows, name, package, moves(make))
    return rows


# Operations of one block --------------------------------------------------------------------


def flop_table() -> Rows:
    """Return what counters make of one block of ViT-Ti: 197 tokens of width 192, three heads."""
    from timm.models.vision_transformer import Block, VisionTransformer

    width, tokens = 192, 197
    block, x = Block(width, 3, qkv_bias=True).eval(), torch.zeros(1, tokens, width)
    # 2 x (q, k, v and projection; both products of attention; the two layers of the MLP)
    hand = 2 * (4 * tokens * width**2 + 2 * tokens**2 * width + 8 * tokens * width**2)
    rows: Rows = [
        ("Counter", "Version", "It says", "In operations", "Of all"),
        ("by hand", "", f"{hand / 1e6:.1f} M operations", f"{hand / 1e6:.1f} M", "100 %"),
    ]

    def counted(
        call: Callable[[], float], unit: str = "operations"
    ) -> Callable[[], tuple[str, ...]]:
        def answer():
            found = float(call())
            operations = found * (2 if unit == "multiply-adds" else 1)
            said = f"{found / 1e6:.{1 if found > 1e6 else 2}f} M {unit}"
            return said, f"{operations / 1e6:.1f} M", f"{100 * operations / hand:.1f} %"

        return answer

    def torch_counter():
        from torch.utils.flop_counter import FlopCounterMode

        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            block(x)
        return counter.get_total_flops()

    def fvcore():
        from fvcore.nn import FlopCountAnalysis

        return FlopCountAnalysis(block, x).unsupported_ops_warnings(False).total()

    def thop():
        import thop

        return thop.profile(copy.deepcopy(block), (x,), verbose=False)[0]

    def ptflops(backend):
        from ptflops import get_model_complexity_info

        return get_model_complexity_info(
            copy.deepcopy(block),
            (tokens, width),
            as_strings=False,
            print_per_layer_stat=False,
            backend=backend,
        )[0]

    def torchinfo():
        import torchinfo

        return torchinfo.summary(block, input_data=x, verbose=0).total_mult_adds

    def ours():
        from skquee.networks import HeadTrainer, MultiExitNetwork

        vit = VisionTransformer(embed_dim=width, depth=2, num_heads=3, num_classes=2)
        images = np.zeros((4, 224, 224, 3), dtype=np.float32)
        network = MultiExitNetwork(vit, exits=(1, 2), trainer=HeadTrainer(max_epochs=1))
        return network.fit(images, [0, 1, 0, 1]).flops_[1]  # the second layer alone

    adds = "multiply-adds"
    for name, package, call in (
        ("torch, ``FlopCounterMode``", "torch", counted(torch_counter)),
        ("fvcore", "fvcore", counted(fvcore, adds)),
        ("thop", "thop", counted(thop, adds)),
        ('ptflops, ``backend="pytorch"``', "ptflops", counted(lambda: ptflops("pytorch"), adds)),
        ('ptflops, ``backend="aten"``', "ptflops", counted(lambda: ptflops("aten"), adds)),
        ("torchinfo", "torchinfo", counted(torchinfo, adds)),
        ("skquee, ``network.flops_``", "skquee", counted(ours)),
    ):
        asked(rows, name, package, call)
    return rows


# One input's calibration error --------------------------------------------------------------


def calibration_table() -> Rows:
    """Return the calibration error of 1,000 confidences of two decimals, by library."""
    rng = np.random.default_rng(0)
    sure = np.round(np.clip(0.5 + rng.beta(4, 1.5, 1000) / 2, 0.5, 1), 2)
    right = (rng.random(1000) < sure**1.5).astype(int)
    both, label = np.column_stack([sure, 1 - sure]), 1 - right
    rows: Rows = [("Library", "Version", "Ten bins", "Its own defaults", "What it is")]

    def said(call: Callable[..., float], bins: dict, text: str) -> Callable[[], tuple[str, ...]]:
        return lambda: (f"{call(**bins):.4f}" if bins else "", f"{call():.4f}", text)

    def torchmetrics(**options):
        from torchmetrics.functional.classification import binary_calibration_error

        return float(binary_calibration_error(torch.tensor(sure), torch.tensor(right), **options))

    def netcal(bins=10):
        from netcal.metrics import ECE

        return ECE(bins).measure(sure, right)

    def mapie(**options):
        from mapie.metrics.calibration import expected_calibration_error

        return expected_calibration_error(right, sure, **options)

    def uncertainty(num_bins=None):
        import calibration

        if num_bins is None:
            return calibration.get_calibration_error(both, label)
        return calibration.get_ece(both, label, num_bins=num_bins)

    def relplot():
        from relplot import smECE

        return smECE(sure, right)

    def ours(**options):
        from skquee.evaluation import calibration_error

        return calibration_error(1 - sure, 1 - right, **options)

    for name, package, call, bins, text in (
        ("torchmetrics", "torchmetrics", torchmetrics, {"n_bins": 10}, "equal width; default 15"),
        ("netcal", "netcal", netcal, {"bins": 10}, "equal width; default 10"),
        (
            "MAPIE",
            "mapie",
            mapie,
            {"num_bins": 10},
            "equal width; default 50",
        ),
        (
            "MAPIE, ``quantile``",
            "mapie",
            lambda **k: mapie(split_strategy="quantile", **k),
            {"num_bins": 10},
            "equal mass; default 50",
        ),
        (
            "uncertainty-calibration",
            "uncertainty-calibration",
            uncertainty,
            {"num_bins": 10},
            "``get_ece``: equal width; ``get_calibration_error``: root of mean square, debiased",
        ),
        ("relplot, ``smECE``", "relplot", relplot, {}, "a kernel, no bins"),
        (
            "skquee, :func:`calibration_error <skquee.evaluation.calibration_error>`",
            "skquee",
            ours,
            {"n_bins": 10},
            "equal mass, ties share their outcome; default 15",
        ),
    ):
        asked(rows, name, package, said(call, bins, text))
    return rows


# A float16 table reduced in float16 ---------------------------------------------------------


def half_table() -> Rows:
    """Return mean, weighted mean and deviation of 100,000 probabilities kept in half precision."""
    rng = np.random.default_rng(0)
    x = rng.beta(0.5, 0.05, 100_000).astype(np.float16)
    w = rng.integers(1, 4, 100_000).astype(np.float16)
    X, W = x.astype(float), w.astype(float)
    rows: Rows = [
        ("How", "Version", "Mean", "Weighted mean", "Standard deviation"),
        ("exactly", "", *(f"{v:.4f}" for v in (X.mean(), np.average(X, weights=W), X.std()))),
    ]

    def numpy():
        return tuple(f"{float(v):.4f}" for v in (x.mean(), np.average(x, weights=w), x.std()))

    def numpy_sum():
        return f"{float(x.sum() / len(x)):.4f}", f"{float((x * w).sum() / w.sum()):.4f}", ""

    def with_torch():
        t, u = torch.tensor(x), torch.tensor(w)
        weighted = (t * u).sum() / u.sum()
        return tuple(f"{v.item():.4f}" for v in (t.mean(), weighted, t.std()))

    def with_pandas():
        import pandas as pd

        series = pd.Series(x)
        return f"{series.mean():.4f}", "", f"{series.std():.4f}"

    def with_sklearn():
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(x[:, None])
        weighted = StandardScaler().fit(x[:, None], sample_weight=w)
        return tuple(f"{v:.4f}" for v in (scaler.mean_[0], weighted.mean_[0], scaler.scale_[0]))

    for name, package, call in (
        ("``x.mean()``, ``np.average``, ``x.std()``", "numpy", numpy),
        ("``x.sum() / len(x)``", "numpy", numpy_sum),
        ("torch", "torch", with_torch),
        ("pandas", "pandas", with_pandas),
        ("scikit-learn, ``StandardScaler``", "scikit-learn", with_sklearn),
    ):
        asked(rows, name, package, call)
    return rows


def as_rst(rows: Rows) -> str:
    """Return a table as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for i, cell in enumerate(row):
            lines.append(f"   {'* -' if i == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (
        ("outlier", outlier_table),
        ("flops", flop_table),
        ("calibration", calibration_table),
        ("half", half_table),
    ):
        written = as_rst(table())
        print(f"\n{name}\n{written}")
        text, found = re.subn(
            rf"(\.\. table {name}\n\n).*?(\n\n\.\. end)",
            lambda match, written=written: match[1] + written + match[2],
            text,
            flags=re.S,
        )
        assert found == 1, name
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
