"""Dask and Ray with two workers: tables travel once, and a worker that is lost loses its task."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

import skquee.dask
from skquee import (
    AutoRouter,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathProbabilities,
    RoutedClassifier,
)
from skquee.baselines import ThresholdRouter
from skquee.testing import make_path_probabilities
from skquee.values import _shipping

# Workers import this file anew; what they find in the environment is who began them.
CLIENT = os.environ.setdefault("SKQUEE_TEST_CLIENT", str(os.getpid()))
RNG = np.random.default_rng(0)
Y = RNG.integers(3, size=160)
X = RNG.normal(size=(160, 3)) + Y[:, None]


class Mortal(GaussianNB):
    """Takes its worker along, once."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    def predict_proba(self, X: Any) -> Any:
        die_once(self.marker)
        return super().predict_proba(X)


class MortalRouter(ThresholdRouter):
    """Takes the worker that fits it along, once."""

    def __init__(self, threshold: float = 0.9, *, marker: str = "") -> None:
        super().__init__(threshold)
        self.marker = marker

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        die_once(self.marker)
        return super().fit(X, y)


def die_once(marker: str) -> None:
    """End this process, a worker that the test began, unless that has been done."""
    if str(os.getpid()) != CLIENT and not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def mortal_bank(marker: Path) -> MultiPathClassifierBank:
    models = [("small", GaussianNB()), ("large", Mortal(str(marker)))]
    return MultiPathClassifierBank(models, step_costs=[1, 9]).fit(X, Y)


@contextmanager
def workers(number: int = 2) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="pip install 'skquee[dask]'")
    cloudpickle = pytest.importorskip("cloudpickle")
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)  # workers cannot import tests
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=50,
            memory_limit=0,
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    with workers() as client:
        yield client


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray", reason="pip install 'skquee[ray]'")
    pytest.importorskip("ray.data")
    here = sys.modules[__name__]
    # Its workers give way to everything else unless told not to, and do not get on in a busy suite.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray import cloudpickle
        from ray.util.joblib import register_ray

        cloudpickle.register_pickle_by_value(here)  # workers cannot import tests
        found.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
        )
        register_ray()
        yield found
        found.shutdown()
    cloudpickle.unregister_pickle_by_value(here)


pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:ResourceWarning")


def big_table() -> tuple[PathProbabilities, Any]:
    table, y = make_path_probabilities(2000, n_classes=20)
    assert np.asarray(table).nbytes > 2**20
    return table, y


@pytest.mark.parametrize("shared", [True, False], ids=["by file", "by value"])
def test_dask_gets_a_table_once_and_answers_with_the_same_bits(
    dask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not shared:  # as where workers run on other machines
        monkeypatch.setattr(_shipping, "shares_files", lambda client: False)
    table, y = big_table()
    exact = CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
    pickled: list[int] = []
    reduce = PathProbabilities.__reduce__
    monkeypatch.setattr(
        PathProbabilities, "__reduce__", lambda self: pickled.append(len(self)) or reduce(self)
    )
    with joblib.parallel_config("dask"):
        router = CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
        assert pickled == []  # its array is sent, and tasks name it
        assert (max(dask.nbytes(summary=False).values(), default=0) > 2**20) is not shared
        assert len(list(tmp_path.iterdir())) == shared
        with skquee.dask.parallel_config(dask):  # its own loops too
            again = CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
        assert len(list(tmp_path.iterdir())) == shared
        search = GridSearchCV(ThresholdRouter(), {"threshold": [0.6, 0.9]}, cv=3).fit(table, y)
        assert len(pickled) <= 2  # a copy for a worker, not one for each of six tasks
    assert np.array_equal(router.predict_error(table), exact.predict_error(table))
    assert np.array_equal(again.predict_error(table), exact.predict_error(table))
    assert search.best_params_["threshold"] in (0.6, 0.9)
    del table, router, again, search, exact
    gc.collect()
    assert not list(tmp_path.iterdir()), "the file lives as long as the table"


def test_a_search_on_dask_loses_the_task_of_a_lost_worker_only(tmp_path: Path) -> None:
    values, y = big_table()
    marker = tmp_path / "search"
    grid = {"threshold": [0.5, 0.7, 0.9]}
    alone = GridSearchCV(MortalRouter(marker=str(marker)), grid, cv=3).fit(values, y)
    assert not marker.exists()
    # Workers of its own: Dask does not always put another in the place of a lost one.
    with workers() as client, skquee.dask.parallel_config(client):
        found = GridSearchCV(MortalRouter(marker=str(marker)), grid, cv=3).fit(values, y)
    assert marker.exists()
    assert found.best_params_ == alone.best_params_
    for name in ("split0_test_score", "split1_test_score", "split2_test_score"):
        assert np.array_equal(found.cv_results_[name], alone.cv_results_[name])


def test_dask_loses_the_task_of_a_lost_worker_only(dask: Any, tmp_path: Path) -> None:
    bank = mortal_bank(tmp_path / "bank")
    exact = np.asarray(bank.transform(X).materialize(batch_size=20))
    with joblib.parallel_config("dask"):
        table = bank.materialize(X, out=tmp_path / "t", shards=8, batch_size=20)
    assert (tmp_path / "bank").exists()
    assert np.array_equal(np.asarray(table), exact)
    dask.wait_for_workers(2, timeout=30)
    values, y = big_table()
    candidates = {
        "mortal": MortalRouter(0.9, marker=str(tmp_path / "router")),
        "other": ThresholdRouter(0.6),
    }
    alone = AutoRouter(candidates=candidates, cv=3, random_state=0).fit(values, y)
    with joblib.parallel_config("dask"):
        found = AutoRouter(candidates=candidates, cv=3, random_state=0).fit(values, y)
    assert (tmp_path / "router").exists()
    assert np.array_equal(found.cv_curve_.accuracy, alone.cv_curve_.accuracy)
    assert np.array_equal(found.predict(values), alone.predict(values))


def total_of(table: PathProbabilities, marker: str) -> float:
    die_once(marker)
    return float(np.asarray(table).sum())


def test_dask_gets_an_array_again_that_went_with_its_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_shipping, "shares_files", lambda client: False)
    table, _ = big_table()
    exact, marker = float(np.asarray(table).sum()), tmp_path / "total"
    with workers(1), joblib.parallel_config("dask"):
        loop = _shipping.TableLoop(table, None)
        totals = loop.run(loop.task(total_of, table, str(marker)) for _ in range(3))
        assert marker.exists()
        assert totals == [exact] * 3
        # A later loop finds the array where it was sent again.
        assert loop.run([loop.task(total_of, table, str(marker))]) == [exact]


def test_dask_gets_arrays_by_the_scheduler_where_workers_cannot_be_reached(
    dask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shipping, "shares_files", lambda client: False)
    monkeypatch.setattr(_shipping, "_reaches", lambda client: False)
    table, _ = big_table()
    with joblib.parallel_config("dask"):
        loop = _shipping.TableLoop(table, None)
        tasks = [loop.task(total_of, table, str(Path(__file__))) for _ in range(2)]
        assert loop.run(tasks) == [float(np.asarray(table).sum())] * 2


def test_a_dask_task_that_fails_outside_its_function_is_told(dask: Any) -> None:
    lost = dask.submit(int, "nothing")
    with joblib.parallel_config("dask"), pytest.raises(ValueError, match="invalid literal"):
        _shipping.run_tasks([joblib.delayed(abs)(lost)], None)


def lie_well(*arrays: Any) -> bool:
    return all(array.flags.aligned for array in arrays if isinstance(array, np.ndarray))


def test_arrays_lie_in_a_dask_worker_as_they_do_here(dask: Any) -> None:
    with joblib.parallel_config("dask"):  # sums over those that lie otherwise have other bits
        tasks = [joblib.delayed(lie_well)(X, "x" * n, X[:n]) for n in range(1, 9)]
        assert all(_shipping.run_tasks(tasks, None))


def pretend(release: str) -> None:
    _shipping.__version__ = release


def test_dask_workers_of_another_release_say_so(dask: Any) -> None:
    table, y = big_table()
    dask.run(pretend, "0.0.1")
    try:
        with joblib.parallel_config("dask"), pytest.raises(RuntimeError, match="runs skquee 0.0.1"):
            CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
        with pytest.raises(RuntimeError, match="install one version everywhere"):
            with skquee.dask.parallel_config(dask):
                raise AssertionError
    finally:
        dask.run(pretend, skquee.__version__)


def test_what_is_no_connected_client_of_dask_is_refused(dask: Any) -> None:
    closed = type(dask)(dask.scheduler.address, set_as_default=False)
    closed.close()
    for client, error, message in (
        ("127.0.0.1:8786", TypeError, r"got str: connect with Client\(address\)"),
        (closed, ValueError, "must be connected"),
    ):
        with pytest.raises(error, match=message), skquee.dask.parallel_config(client):
            raise AssertionError


def test_a_dask_array_is_routed_block_by_block() -> None:
    arrays = pytest.importorskip("dask.array", reason="pip install 'skquee[dask]'")
    from skquee.dask import route

    model = RoutedClassifier(
        MultiPathClassifierBank(
            [("small", GaussianNB()), ("large", GaussianNB())], step_costs=[1, 9]
        ),
        CostAwareRouter(0.001, random_state=0),
    ).fit(X, Y)
    exact = model.route(X)
    for chunks in ((50, 3), (64, 2)):
        routed = route(model, arrays.from_array(X, chunks=chunks))
        assert routed.numblocks == (-(-160 // chunks[0]),)
        found = routed.compute(scheduler="synchronous")
        assert np.array_equal(found["label"], exact.labels)
        assert np.array_equal(found["path"], exact.paths)
        assert np.array_equal(found["cost"], exact.costs)
    with pytest.raises(TypeError, match="must be a dask array of samples, got ndarray"):
        route(model, X)


def test_batches_of_columns_get_a_column_of_probabilities() -> None:
    models = [("small", GaussianNB()), ("large", GaussianNB())]
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    plain = MultiPathClassifierBank(models, step_costs=[1, 9]).fit(X, Y)
    named = MultiPathClassifierBank(models, step_costs=[1, 9]).fit(frame, Y)
    columns = {name: frame[name].to_numpy() for name in ("c", "b", "a")}
    exact = np.asarray(plain.transform(X))
    for bank, batch in (
        (plain, {"data": X}),
        (plain, {"rows": X}),
        (plain, {"data": X, "id": Y}),
        (named, columns),
        (named, {**columns, "id": Y}),
    ):
        found = bank.map_batches(batch)
        assert list(found) == [*batch, "probabilities"]
        assert np.array_equal(found["probabilities"], exact)
    with pytest.raises(ValueError, match=r"lacks the columns \['b'\]"):
        named.map_batches({"a": Y, "c": Y})
    with pytest.raises(ValueError, match="put the rows into one, 'data'"):
        plain.map_batches({"a": Y, "c": Y})


def test_ray_loses_the_task_of_a_lost_worker_only(ray: Any, tmp_path: Path) -> None:
    table, y = big_table()
    exact = CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
    with joblib.parallel_config("ray", n_jobs=2):
        router = CostAwareRouter(0.1, regressor="logistic", random_state=0).fit(table, y)
    assert np.array_equal(router.predict_error(table), exact.predict_error(table))
    bank = mortal_bank(tmp_path / "bank")
    whole = np.asarray(bank.transform(X).materialize(batch_size=20))
    again = {"max_restarts": -1, "max_task_retries": -1}
    with joblib.parallel_config("ray", n_jobs=2, ray_remote_args=again):
        rows = bank.materialize(X, out=tmp_path / "t", shards=8, batch_size=20)
    assert (tmp_path / "bank").exists()
    assert np.array_equal(np.asarray(rows), whole)


def test_ray_without_restarts_says_so_and_the_same_call_goes_on(ray: Any, tmp_path: Path) -> None:
    bank = mortal_bank(tmp_path / "bank")
    with joblib.parallel_config("ray", n_jobs=2):
        with pytest.raises(ray.exceptions.RayActorError):
            bank.materialize(X, out=tmp_path / "t", shards=8, batch_size=20)
        rows = bank.materialize(X, out=tmp_path / "t", shards=8, batch_size=20)
    whole = np.asarray(bank.transform(X).materialize(batch_size=20))
    assert np.array_equal(np.asarray(rows), whole)


def test_ray_data_gets_a_column_of_probabilities(ray: Any) -> None:
    models = [("small", GaussianNB()), ("large", GaussianNB())]
    bank = MultiPathClassifierBank(models, step_costs=[1, 9]).fit(X, Y)
    found = ray.data.from_numpy(X).map_batches(bank.map_batches, batch_size=40).take_all()
    rows = np.stack([row["data"] for row in found])
    order, exact = np.lexsort(rows.T), np.lexsort(X.T)
    assert np.array_equal(rows[order], X[exact])
    probabilities = np.stack([row["probabilities"] for row in found])
    assert np.array_equal(probabilities[order], np.asarray(bank.transform(X))[exact])
