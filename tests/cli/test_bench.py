"""``skquee bench``: the whole table on a small network; no time is tested."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from skquee.bank import MultiPathClassifierBank
from skquee.cli import main
from skquee.networks import HeadTrainer, MultiExitNetwork, NetworkCascade
from skquee.report import measure_speed


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_digits(n_class=4, return_X_y=True)
    return np.repeat((X.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), 3, axis=3)[:400], y[:400]


@pytest.fixture(scope="module")
def files(images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y = images
    root = tmp_path_factory.mktemp("bench")
    np.savez(root / "data.npz", X=X, y=y)
    network = MultiExitNetwork(
        "vit_tiny_patch16_224",
        exits=(1, 2),
        img_size=16,
        backbone_kwargs={"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2},
        trainer=HeadTrainer(max_epochs=20),
        random_state=0,
    )
    network.fit(X[:150], y[:150]).save(root / "network")
    return root


def test_bench_prints_and_saves_one_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        f"bench --network {files} --data {files}/data.npz --batch-sizes 4 1 --threads 1 "
        f"--levels fp32 --repeats 2 --no-compile --out {files}/speed.csv"
    )
    assert main(arguments.split()) == 0
    printed = capsys.readouterr().out
    assert "Times the float network" in printed and "levels kept: fp32" in printed
    assert "Milliseconds of one image, 1 thread(s)" in printed
    verdict = printed[printed.index("Verdict, at most 0.5 points") :].splitlines()
    assert verdict[1].startswith("  1 image, 1 thread(s): ") and "p99" in verdict[1]
    assert verdict[2].startswith("  4 images, 1 thread(s): ") and "p99" not in verdict[2]
    found = pd.read_csv(files / "speed.csv")
    assert set(found["batch"]) == {1, 4}
    names = found["alternative"].unique().tolist()
    assert names[:2] == ["float32, eager", "fp32, every block"]
    kinds = ("routed (paper)", "routed (ensemble)", "one path")
    assert [sum(name.startswith(kind) for name in names) for kind in kinds] == [4, 4, 4]
    assert (files / "speed.png").stat().st_size > 5_000
    single = found[found["batch"] == 1]
    assert (single["p99_ms"] >= single["p50_ms"]).all() and (single["p50_ms"] > 0).all()
    assert found.loc[found["batch"] == 4, "p50_ms"].isna().all()
    reference = found[found["alternative"] == "float32, eager"]
    assert (reference["ratio"] == 1).all() and (found["images_per_second"] > 0).all()
    assert not list(files.glob("*.new*"))


def test_accuracy_is_that_of_what_runs(files: Path, images: Any) -> None:
    X, y = images
    network = MultiExitNetwork.load(files / "network").compile(("fp32",), batch_size=2)
    found = measure_speed(
        network,
        (X[150:280], y[150:280]),
        (X[280:], y[280:]),
        batch_sizes=(2,),
        compiled=False,
        repeats=1,
        images_a_round=8,
    ).set_index("alternative")
    state = network.start(X[280:])
    with torch.inference_mode():
        for block in network.float_blocks:
            state = block(state)
    right = (network.classes_[network.head(state, 1, None).argmax(axis=1)] == y[280:]).mean()
    assert found.loc["float32, eager", "accuracy"] == pytest.approx(right)
    assert found.loc["fp32, every block", "accuracy"] == pytest.approx(right)
    routed = found[found.index.str.startswith("routed")]
    assert routed["accuracy"].between(0, 1).all() and (routed["overhead"] > 0).all()
    assert (routed["predicted"] > 0).all() and network.latency_.start == 0
    single = found[found.index.str.startswith("one path")]
    exits = MultiPathClassifierBank(network).transform(X[280:])
    known = [(network.classes_[exits.path(p).argmax(axis=1)] == y[280:]).mean() for p in (0, 1)]
    assert all(min(abs(np.array(known) - a)) < 1e-9 for a in single["accuracy"])
    with pytest.raises(ValueError, match="fewer than a batch of 256"):
        measure_speed(network, (X[:50], y[:50]), (X[:50], y[:50]))


def test_a_compiler_that_fails_is_left_out_with_a_message(
    files: Path, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skquee.speed._runs import frozen

    def broken(*args: Any, **kwargs: Any) -> Any:
        def run(state: Any) -> Any:
            raise RuntimeError("no compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    network = MultiExitNetwork.load(files / "network")
    with pytest.warns(UserWarning, match="left out: no compiler"):
        assert frozen(network, network.start(images[0][:1])) == {}
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(frozen(network, network.start(images[0][:1]))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--network nowhere --data {files}/data.npz", "there is no saved network"),
        ("--network {files}/network --data {files}/data.npz --max-loss 2", "between 0 and 1"),
        ("--network {files}/network --data no.npz", "no.npz: there is no such file"),
        ("--network {files}/network --data README.md", "README.md: give a folder with a folder"),
        ("--network {files}/network --data {files}/data.npz --out no/x.csv", "does not exist"),
        ("--network {files}/network --data {files}/data.npz --out x.png", "must end in .csv"),
        ("--network {files}/network --data {files}/data.npz --threads 99999", "from 1 to 1024"),
        ("--network {files}/network --data {files}/data.npz --batch-sizes 99999", "1 to 65536"),
        ("--network {files}/network --data {files}/data.npz --levels int4", "invalid choice"),
    ],
)
def test_bad_options_end_with_one_line(
    files: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments.format(files=files).split()])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_cut_archive_is_one_line(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 an archive that ends too early")
    for option in ("--data", "--validation"):
        command = f"bench --network {files}/network --data {files}/data.npz {option}"
        assert main([*command.split(), str(tmp_path / "cut.npz")]) == 1
        error = capsys.readouterr().err
        assert "cut.npz" in error and error.count("\n") == 1


def test_a_cascade_is_measured_beside_its_last_network(images: Any) -> None:
    X, y = images

    def net(width: int) -> torch.nn.Module:
        layers = torch.nn.Conv2d(3, width, 3), torch.nn.Flatten(), torch.nn.LazyLinear(4)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = torch.nn.Sequential(*layers)
            module(torch.zeros(1, 3, width, width))
        return module

    def measured(**sizes: int) -> pd.DataFrame:
        cascades = [
            MultiPathClassifierBank.from_networks(
                {name: net(size)}, levels=("fp32",), img_size=size, runtime="torch"
            ).classifiers.members
            for name, size in sizes.items()
        ]
        cascade = NetworkCascade(
            {name: m for c in cascades for name, m in c.items()}, paths="chain"
        )
        return measure_speed(
            cascade,
            (X[:150], y[:150]),
            (X[150:], y[150:]),
            batch_sizes=(1, 3),
            compiled=False,
            repeats=1,
            images_a_round=16,
        )

    for found in (measured(small=8, large=8), measured(small=8, large=12)):
        by_name = found[found["batch"] == 3].set_index("alternative")
        assert by_name.index[:3].tolist() == [
            "float32, eager",
            "small@fp32, alone",
            "large@fp32, alone",
        ]
        same = by_name.loc[["float32, eager", "large@fp32, alone"], "accuracy"]
        assert same.nunique() == 1
        routed = by_name[by_name.index.str.startswith("routed")]
        assert (routed[["overhead", "predicted"]] > 0).all(axis=None)
