"""The whole network on the engines of others: ONNX Runtime and OpenVINO, where installed."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from skquee.networks import MultiExitNetwork
from skquee.values._types import Rows

__all__ = ["external_engines"]

Classify = Callable[[Tensor | NDArray[np.floating]], NDArray[np.float32]]

N_CALIBRATION = 256
INSTALL = "pip install onnx onnxscript onnxruntime openvino nncf"
# Rows that OpenVINO may run together, and the mean change of probabilities that is rounding.
PART_SIZES = (256, 64, 16, 4)
SAME = 0.02
NOISY = ("nncf", "torch.onnx", "torch.utils.cpp_extension")


def external_engines(
    network: MultiExitNetwork, calibration: Rows, *, threads: int = 1
) -> tuple[dict[str, Classify], dict[str, str]]:
    """Build the whole float network, last head included, on other engines.

    None of them downloads, reports home or writes outside of a temporary folder. ONNX Runtime
    and OpenVINO fix that when they are first imported: where a program has imported one before,
    what that program chose holds.

    `network`: fitted; it is not changed. `calibration`: as in ``fit``. The first 256 set the
    ranges of static int8. `threads`: threads of each engine, fixed when it is built. Returns
    `runs`: by name, what maps a tensor or array of ``network.start``, (n, C, H, W), to
    probabilities (n, n_classes). Any n. Returns `missing`: by name, why an engine is not among
    them. Raises ValueError if `threads` is below 1 or `calibration` holds fewer than two images.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}.")
    images = network.rows(calibration)[:N_CALIBRATION].tensor()
    if len(images) < 2:
        raise ValueError(f"calibration must hold at least 2 images, got {len(images)}.")
    # A copy: exporting wants it on the CPU and in evaluation mode.
    model = copy.deepcopy(_Whole(network)).cpu().eval()
    builders: dict[str, Callable[[ExportedProgram, Tensor, int], Classify]] = {
        "ONNX Runtime, int8 dynamic": partial(_onnxruntime, static=False),
        "ONNX Runtime, int8 static": partial(_onnxruntime, static=True),
        "OpenVINO, bf16": partial(_openvino, int8=False),
        "OpenVINO, int8": partial(_openvino, int8=True),
    }
    runs: dict[str, Classify] = {}
    missing: dict[str, str] = {}
    with _quiet():
        try:
            # Two rows, as torch takes an axis of one for fixed.
            program = torch.export.export(
                model, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
        except Exception as error:
            return {}, dict.fromkeys(builders, f"torch.export fails: {_first_line(error)}")
        for name, build in builders.items():
            # What fails inside these packages must not cost a benchmark its other lines.
            try:
                runs[name] = build(program, images, threads)
            except ModuleNotFoundError as error:
                missing[name] = f"{error.name} is not installed: {INSTALL}"
            except Exception as error:
                missing[name] = _first_line(error)
    return runs, missing


class _Whole(nn.Module):
    """Images (n, C, H, W) to probabilities (n, n_classes) through every float block."""

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*network.float_blocks)
        self.pool = network.exit_pools[-1]
        self.head = network.exit_heads[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(images))).softmax(dim=1)


def _onnxruntime(
    program: ExportedProgram, images: Tensor, threads: int, *, static: bool
) -> Classify:
    needs = ("onnx", "onnxscript", "onnxruntime", "onnxruntime.quantization")
    *_, runtime, quantization = map(importlib.import_module, needs)
    # The optimiser of onnxscript takes a constant of 1e-8 for zero, and so made NaN of T2T-ViT;
    # ONNX Runtime's own, below, does not.
    exported = torch.onnx.export(
        program, dynamo=True, optimize=False, input_names=["images"], verbose=False
    )
    options: dict[str, object] = {
        "weight_type": quantization.QuantType.QInt8,
        "per_channel": True,
        # Without VNNI products are summed in 16 bits, which eight-bit weights overflow.
        "reduce_range": not _has_vnni(),
    }
    session = runtime.SessionOptions()
    session.intra_op_num_threads, session.inter_op_num_threads = threads, 1
    # Threads that go on waiting busily would slow down what is timed next.
    session.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as folder:
        graph, prepared, quantized = (Path(folder, f"{n}.onnx") for n in range(3))
        assert exported is not None  # of dynamo=True
        exported.save(graph)
        quantization.quant_pre_process(graph, prepared, skip_symbolic_shape=True)
        if static:
            quantization.quantize_static(
                prepared,
                quantized,
                _reader(quantization, images),
                activation_type=quantization.QuantType.QUInt8,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                extra_options={"MatMulConstBOnly": True},
                **options,
            )
        else:
            quantization.quantize_dynamic(prepared, quantized, **options)
        run = runtime.InferenceSession(
            quantized.read_bytes(), session, providers=["CPUExecutionProvider"]
        )
    name = run.get_inputs()[0].name
    return lambda rows: run.run(None, {name: _array(rows)})[0]


def _reader(quantization: Any, images: Tensor) -> object:
    batches = iter([{"images": batch.numpy()} for batch in images.split(16)])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(batches, None)

    return Reader()


def _has_vnni() -> bool:
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_vnni") or known.get("avx_vnni"))


def _openvino(program: ExportedProgram, images: Tensor, threads: int, *, int8: bool) -> Classify:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if not (has_bf16 or int8):
        raise RuntimeError("this CPU has no bfloat16 instructions")
    model = openvino.convert_model(program)
    model.reshape(openvino.PartialShape([-1, *images.shape[1:]]))
    if int8:
        model = _nncf(model, images)
    properties = openvino.properties
    compiled = core.compile_model(
        model,
        "CPU",
        {
            properties.inference_num_threads: threads,
            properties.num_streams: 1,
            # Two threads of one core count as two, as they do for torch, and none is pinned.
            properties.hint.enable_hyper_threading: True,
            properties.hint.enable_cpu_pinning: False,
            properties.hint.inference_precision: (
                openvino.Type.bf16 if has_bf16 else openvino.Type.f32
            ),
        },
    )
    request = compiled.create_infer_request()
    return _in_parts(lambda rows: request.infer([rows], share_inputs=True)[0], images)


def _nncf(model: Any, images: Tensor) -> Any:
    """Return a model with linear layers and convolutions in int8."""
    nncf = importlib.import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its import sets another
    # Products of two activations stay in float, as they do in our int8 engine: Performer
    # attention in int8 costs T2T-ViT-7 four points of accuracy.
    products = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "ScaledDotProductAttention"
        or (node.get_type_name() == "MatMul" and not any(map(_is_constant, node.input_values())))
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(list(images.numpy()[:, None])),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=products, validate=False),
        )


def _is_constant(value: Any) -> bool:
    """Whether a value of an OpenVINO graph is a weight, perhaps cast or turned."""
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Constant"


def _in_parts(run: Classify, images: Tensor) -> Classify:
    """Return an engine that runs at most as many rows together as it gets right.

    OpenVINO 2026.4 answers wrongly, in silence, where a batch of T2T-ViT has more rows than a
    Performer layer has tokens.
    """

    def parts(size: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(rows) <= size:
            return run(rows)
        return np.concatenate([run(rows[n : n + size]) for n in range(0, len(rows), size)])

    probe = np.resize(images.numpy(), (PART_SIZES[0], *images.shape[1:]))
    expected = parts(PART_SIZES[-1], probe)
    for size in PART_SIZES:
        # Half the distance in L1, the mean over rows. NaN is no small one.
        if np.abs(parts(size, probe) - expected).sum(axis=1).mean() / 2 < SAME:
            return lambda rows: parts(size, _array(rows))
    raise RuntimeError("it answers with NaN")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Import and build without reports to the makers and without their log lines."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    kind, told = logging.getLoggerClass(), os.environ.get("ORT_DISABLE_TELEMETRY")
    # None makes an import fail: OpenVINO and NNCF then go without their reports.
    blocked = "openvino_telemetry" not in sys.modules
    if blocked:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # ONNX Runtime logs at the root, which gives it a handler for good if it has none.
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_not_of_onnxruntime)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if blocked:
            del sys.modules["openvino_telemetry"]
        if told is None:
            del os.environ["ORT_DISABLE_TELEMETRY"]
        else:
            os.environ["ORT_DISABLE_TELEMETRY"] = told
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        root.removeFilter(_not_of_onnxruntime)
        root.removeHandler(handler)
        logging.setLoggerClass(kind)  # NNCF puts its own in place


def _not_of_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname


def _array(rows: Tensor | NDArray[np.floating]) -> NDArray[np.float32]:
    if isinstance(rows, Tensor):
        rows = rows.detach().cpu().numpy()
    return np.ascontiguousarray(rows, dtype=np.float32)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
