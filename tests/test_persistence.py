from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import ensemble, tree
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import skquee
from skquee import (
    AutoRouter,
    BudgetRouter,
    ClusteredErrorTargets,
    CostAwareRouter,
    MultiPathClassifierBank,
    PathErrorClassifier,
    PathErrorRegressor,
    PathTree,
    RiskControlledRouter,
    RoutedClassifier,
    TunedCostAwareRouterCV,
)
from skquee.baselines import (
    JEIDNN,
    BudgetedThresholdRouter,
    DQNetGate,
    FixedPath,
    NextStepRouter,
    OracleRouter,
    PatienceRouter,
    RandomMixing,
    ThresholdRouter,
)
from skquee.evaluation import price_scorer
from skquee.monitoring import RouteMonitor
from skquee.networks.engines import LatencyTable
from skquee.persistence import trusted_types
from skquee.testing import TableNetwork, make_path_probabilities

TABLE, LABELS = make_path_probabilities(160, random_state=0)
CHAIN, CHAIN_LABELS = make_path_probabilities(160, PathTree.chain([1, 2, 4]), random_state=0)
X, Y = make_classification(200, 6, n_informative=4, n_classes=3, random_state=0)
SEED = {"random_state": 0}


def quick(**options: Any) -> CostAwareRouter:
    return CostAwareRouter(0.1, targets="bernoulli", regressor="logistic", **SEED, **options)


def bank(*models: Any, **options: Any) -> MultiPathClassifierBank:
    named = [(f"m{number}", model) for number, model in enumerate(models)]
    steps = [10.0**number for number in range(len(models))]
    return MultiPathClassifierBank(named, step_costs=steps, **options)


def forest(**options: Any) -> Any:
    return ensemble.RandomForestClassifier(5, max_depth=3, **SEED, **options)


def again(obj: Any, folder: Any, **options: Any) -> Any:
    skquee.dump(obj, folder / "x.skops")
    return skquee.load(folder / "x.skops", **options)


def schema_of(file: Any) -> Any:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("schema.json"))


def nodes_of(part: Any) -> list[Any]:
    found = []
    if isinstance(part, dict):
        found = [part] if "__loader__" in part else []
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    return found + [node for value in values for node in nodes_of(value)]


def forge(file: Any, change: Any) -> None:
    """Rewrite an archive: `change(schema, files)` changes both in place."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    change(schema, files)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**files, "schema.json": json.dumps(schema)}.items():
            archive.writestr(name, content)


# ---------------------------------------------------------------------- everything fitted


ON_TABLES = {
    "paper": CostAwareRouter(0.1, **SEED),
    "logistic": quick(),
    "rich": quick(features="rich", answer="recall", policy="option-value"),
    "boosting": CostAwareRouter(0.1, regressor="boosting", targets="bernoulli", **SEED),
    "pessimistic": quick(answer="ensemble", policy="pessimistic"),
    "closed loop": quick(policy="closed-loop"),
    "tuned": TunedCostAwareRouterCV(quick(), price=0.1, cv=2),
    "budget": BudgetRouter(quick().fit(TABLE, LABELS), budget=0.5, **SEED),
    "risk": RiskControlledRouter(quick().fit(TABLE, LABELS), max_error=0.5, **SEED),
    "auto": AutoRouter(0.1, candidates={"a": quick(), "b": quick(answer="recall")}, cv=2),
    "fixed": FixedPath(),
    "mixing": RandomMixing(0.5),
    "oracle": OracleRouter(0.1),
    "next step": NextStepRouter(0.1),
    "dqnet": DQNetGate(max_epochs=1, **SEED),
}
ON_CHAINS = {
    "threshold": ThresholdRouter(0.7),
    "budgeted": BudgetedThresholdRouter(0.5),
    "patience": PatienceRouter(2),
    "jeidnn": JEIDNN(lambda_=0.3, max_epochs=1, **SEED),
}


@pytest.mark.parametrize("name", [*ON_TABLES, *ON_CHAINS])
def test_routers_come_back_as_they_were(name, tmp_path):
    table, y = (TABLE, LABELS) if name in ON_TABLES else (CHAIN, CHAIN_LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few rows
        router = {**ON_TABLES, **ON_CHAINS}[name].fit(table, y)
    loaded = again(router, tmp_path)
    given = (table, y) if name == "oracle" else (table,)
    np.testing.assert_array_equal(loaded.predict_path(*given), router.predict_path(*given))
    np.testing.assert_array_equal(loaded.predict_proba(*given), router.predict_proba(*given))
    assert loaded.paths_ == router.paths_
    assert str(loaded) == str(router)
    classes = {
        f"{n['__module__']}.{n['__class__']}" for n in nodes_of(schema_of(tmp_path / "x.skops"))
    }
    ours = {kind for kind in classes if kind.startswith("skquee")}
    assert ours <= set(trusted_types())
    # Names of the public face: where the code stands may change.
    assert not any("._" in kind.rpartition(".")[0] for kind in ours)


TWO = [("a", forest()), ("b", LogisticRegression(max_iter=5000))]
MODELS = {
    "linear": LogisticRegression(),
    "tree": tree.DecisionTreeClassifier(max_depth=3),
    "pruned tree": tree.DecisionTreeClassifier(ccp_alpha=0.02),
    "random tree": tree.ExtraTreeClassifier(max_leaf_nodes=6, **SEED),
    "forest": forest(),
    "extra trees": ensemble.ExtraTreesClassifier(5, **SEED),
    "hist boosting": ensemble.HistGradientBoostingClassifier(max_iter=3),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=3),
    "boosting from zero": ensemble.GradientBoostingClassifier(n_estimators=3, init="zero"),
    "bagging": ensemble.BaggingClassifier(forest(), n_estimators=2, max_features=0.5, **SEED),
    "adaboost": ensemble.AdaBoostClassifier(n_estimators=2),
    "stacking": ensemble.StackingClassifier(TWO, LogisticRegression(), cv=2),
    "voting": ensemble.VotingClassifier(TWO, voting="soft"),
    "pipeline": make_pipeline(StandardScaler(), FunctionTransformer(np.abs), forest()),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["numbers", "texts", "binary"])
def test_models_of_a_bank_come_back_as_they_were(name, kind, tmp_path):
    labels = {"numbers": Y, "texts": np.array(["a", "b", "c"])[Y], "binary": Y > 0}[kind]
    clf = bank(LogisticRegression(max_iter=5000), MODELS[name]).fit(X, labels)
    loaded = again(clf, tmp_path)
    np.testing.assert_array_equal(np.asarray(loaded.transform(X)), np.asarray(clf.transform(X)))
    assert loaded.classes_.tolist() == clf.classes_.tolist()


def test_a_routed_classifier_comes_back_with_its_bank_and_can_go_on(tmp_path):
    hist = ensemble.HistGradientBoostingClassifier(max_iter=5)
    clf = RoutedClassifier(bank(LogisticRegression(), hist, forest()), quick()).fit(X, Y)
    loaded = again(clf, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(loaded.route(X).paths, clf.route(X).paths)
    np.testing.assert_array_equal(loaded.freeze().predict(X), clf.predict(X))
    assert loaded.paths_ == clf.paths_
    np.testing.assert_array_equal(loaded.fit(X, Y).predict(X), clf.predict(X))


def test_data_frames_with_categories_come_back(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcdef"))
    frame["kind"] = pd.Categorical(np.array(["x", "y", "z"])[np.arange(len(X)) % 3])
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    models = (
        make_pipeline(encode, LogisticRegression()),
        ensemble.HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2),
    )
    clf = bank(*models).fit(frame, Y)
    loaded = again(clf, tmp_path)
    np.testing.assert_array_equal(loaded.transform(frame), clf.transform(frame))


def test_what_holds_a_router_comes_back(tmp_path):
    fitted = bank(LogisticRegression(), forest()).fit(X[:100], Y[:100])
    pipeline = make_pipeline(FrozenEstimator(fitted), quick()).fit(X[100:], Y[100:])
    loaded = again(pipeline, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
    search = GridSearchCV(quick(), {"lambda_": [0.0, 0.3]}, cv=2).fit(TABLE, LABELS)
    np.testing.assert_array_equal(again(search, tmp_path).predict(TABLE), search.predict(TABLE))
    search.set_params(scoring=price_scorer(0.1)).fit(TABLE, LABELS)
    loaded = again(search, tmp_path)
    assert loaded.score(TABLE, LABELS) == search.score(TABLE, LABELS)
    both = {"a": ThresholdRouter(0.5).fit(CHAIN, CHAIN_LABELS), "b": [1, None]}
    loaded = again(both, tmp_path)
    assert loaded["b"] == [1, None]
    np.testing.assert_array_equal(loaded["a"].predict(CHAIN), both["a"].predict(CHAIN))


def test_trees_curves_times_targets_and_gates_come_back(tmp_path):
    assert again(PathTree.cascade([1, 2], cost_unit="ms"), tmp_path).cost_unit == "ms"
    curve = quick().fit(TABLE, LABELS).cost_curve()
    assert again(curve, tmp_path).to_frame().equals(curve.to_frame())
    times = LatencyTable(("fp32",), (1, 4), np.ones((2, 1, 2)), np.zeros(2), 1, "here")
    assert again(times, tmp_path).to_dict() == times.to_dict()
    targets = ClusteredErrorTargets(3, **SEED).fit(TABLE, LABELS)
    np.testing.assert_array_equal(
        again(targets, tmp_path).transform(TABLE), targets.transform(TABLE)
    )
    wrong = (np.asarray(TABLE).argmax(axis=2) != LABELS[:, None]).astype(float)
    for gate in (PathErrorRegressor(max_epochs=2, **SEED), PathErrorClassifier("logistic")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of so few epochs
            gate.fit(TABLE, wrong)
        loaded = again(gate, tmp_path)
        for prefix in range(2):
            np.testing.assert_array_equal(
                loaded.predict(TABLE, prefix=prefix), gate.predict(TABLE, prefix=prefix)
            )
    monitor = RouteMonitor(quick().fit(TABLE, LABELS), **SEED).fit(TABLE, LABELS)
    assert again(monitor, tmp_path).update(TABLE).alarm_ == monitor.update(TABLE).alarm_


def test_a_file_is_read_in_a_fresh_process(tmp_path):
    clf = RoutedClassifier(bank(LogisticRegression(), forest()), quick()).fit(X, Y)
    skquee.dump(clf, tmp_path / "clf.skops")
    np.save(tmp_path / "X.npy", X)
    code = """if True:
        import numpy as np
        import skquee
        print(skquee.load("clf.skops").predict(np.load("X.npy")).tolist())
        """
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(skquee.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == clf.predict(X).tolist()


# ---------------------------------------------------------------------- small, whole, the same


def test_a_file_is_hardly_larger_than_that_of_joblib(tmp_path):
    models = LogisticRegression(), ensemble.HistGradientBoostingClassifier(max_iter=20)
    fitted = [FrozenEstimator(m.fit(X, Y)) for m in (*models, ensemble.RandomForestClassifier(30))]
    clf = RoutedClassifier(bank(*fitted), quick()).fit(X, Y)
    skquee.dump(clf, tmp_path / "clf.skops")
    joblib.dump(clf, tmp_path / "clf.joblib")
    size = (tmp_path / "clf.skops").stat().st_size
    assert size <= 1.2 * (tmp_path / "clf.joblib").stat().st_size


def test_a_model_that_is_held_twice_is_written_once_and_stays_one(tmp_path):
    frozen = bank(FrozenEstimator(forest().fit(X, Y))).fit(X, Y)
    loaded = again(frozen, tmp_path)
    assert loaded.classifiers[0][1] is loaded.classifiers_[0][1]
    kinds = [n["__loader__"] for n in nodes_of(schema_of(tmp_path / "x.skops"))]
    assert kinds.count("TreeNode") == 5


def test_the_same_object_gives_the_same_bytes(tmp_path):
    router = quick().fit(TABLE, LABELS)
    skquee.dump(router, tmp_path / "a")
    skquee.dump(pickle.loads(pickle.dumps(router)), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_error_leaves_the_earlier_file(tmp_path):
    file = tmp_path / "x.skops"
    file.write_text("earlier")
    with pytest.raises(TypeError):
        skquee.dump(None, file)
    assert [p.name for p in tmp_path.iterdir()] == ["x.skops"]
    assert file.read_text() == "earlier"
    with pytest.raises(FileNotFoundError, match="make it first"):
        skquee.dump(FixedPath(), tmp_path / "no" / "x.skops")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        skquee.dump(FixedPath(), tmp_path)


# ---------------------------------------------------------------------- what has no place


def ask(rows: Any) -> Any:
    return np.tile([0.2, 0.3, 0.5], (len(rows), 1))


class SavedNetwork(TableNetwork):
    """A network that can save itself."""

    def save(self, folder: Any) -> None:
        raise AssertionError("nobody asked")


def test_what_has_no_place_in_a_file_is_named_with_a_way_out(tmp_path):
    network_bank = MultiPathClassifierBank(SavedNetwork(TABLE))
    several = MultiPathClassifierBank(TableNetwork(TABLE))
    rows = np.arange(len(TABLE))[:, None]
    routed = RoutedClassifier(network_bank, quick()).fit(rows, LABELS)
    called = MultiPathClassifierBank(
        [("lr", LogisticRegression()), ("api", ask)], step_costs=[1, 9], classes=[0, 1, 2]
    )
    table_bank = bank(LogisticRegression()).fit(X, Y)
    for obj, message in (
        (routed, r"RoutedClassifier\.bank\.classifiers is a network .*network\.save\(folder\)"),
        (network_bank, r"MultiPathClassifierBank\.classifiers is a network"),
        (several, "is a network .* Make it again from its modules"),
        (called, "Member 'api' of MultiPathClassifierBank is a function .*a file holds no code"),
        (RoutedClassifier(called, quick()).fit(X, Y), r"Member 'api' of RoutedClassifier\.bank"),
        (TABLE, r"is a table: save it by table\.save\(file\)"),
        (table_bank.transform(X), r"is a table: save it by table\.save\(file\)"),
        (quick().fit(TABLE, LABELS).freeze(), r"is a snapshot: save the router .*freeze\(\) again"),
        (quick(policy=lambda visit: visit).set_params(), "policy is a function that a file cannot"),
        (bank(make_pipeline(FunctionTransformer(lambda x: x), forest())), "func is a function"),
        (None, "NoneType is no object of skquee and holds none"),
        (LogisticRegression(), "LogisticRegression is no object of skquee"),
    ):
        with pytest.raises(TypeError, match=message):
            skquee.dump(obj, tmp_path / "x.skops")
    assert not list(tmp_path.iterdir())
    # The way out that the messages name.
    loaded = again(routed.router_, tmp_path)
    np.testing.assert_array_equal(
        loaded.predict(network_bank.transform(rows)), routed.predict(rows)
    )


# ---------------------------------------------------------------------- reading


def test_what_is_no_skops_file_is_refused(tmp_path):
    file = tmp_path / "x.skops"
    with pytest.raises(FileNotFoundError, match="There is no file"):
        skquee.load(file)
    with pytest.raises(ValueError, match="not a whole skops file .*folder"):
        skquee.load(tmp_path)
    skquee.dump(FixedPath().fit(TABLE, LABELS), file)
    content = file.read_bytes()
    for size in (0, 10, len(content) // 2, int(len(content) * 0.99)):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match="not a whole skops file"):
            skquee.load(file)
    file.write_text("junk")
    with pytest.raises(ValueError, match="not a whole skops file"):
        skquee.load(file)
    TABLE.save(file)
    with pytest.raises(ValueError, match=r"not a whole skops file .*no schema\.json"):
        skquee.load(file)


@pytest.fixture
def routed_file(tmp_path):
    skquee.dump(quick().fit(TABLE, LABELS), tmp_path / "x.skops")
    return tmp_path / "x.skops"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, f: s.update(protocol=99), "not a whole skops file .*protocol 99"),
        (lambda s, f: s.pop("protocol"), "not a whole skops file .*protocol None"),
        (lambda s, f: s.clear(), "nothing of skquee's"),
        (lambda s, f: s.update(__loader__="EvilNode"), "not a whole skops file .*EvilNode"),
        (lambda s, f: s.update(content=[]), "not a whole skops file"),
        (lambda s, f: s["content"].update(content=5), "not a whole skops file"),
        (
            lambda s, f: f.update({"skquee.json": b'{"format": 9, "skquee": "7.0"}'}),
            "skquee 7.0 in",
        ),
        (lambda s, f: f.update({"skquee.json": b'{"format": "a"}'}), "format a"),
        (lambda s, f: f.update({"skquee.json": b"["}), "JSON cannot be read"),
    ],
)
def test_a_forged_description_is_refused(routed_file, change, message):
    forge(routed_file, change)
    with pytest.raises(ValueError, match=message):
        skquee.load(routed_file)


@pytest.mark.parametrize("value", ['"evil"', "-1.0", "NaN", "[1]"])
def test_parameters_that_a_router_would_refuse_are_refused_when_it_is_read(routed_file, value):
    forge(routed_file, lambda s, f: s["content"]["content"]["lambda_"].update(content=value))
    with pytest.raises(ValueError, match=r"x\.skops holds a CostAwareRouter that cannot be used: "):
        skquee.load(routed_file)


def test_a_tree_of_paths_is_checked_as_when_it_is_made(routed_file):
    def change(schema, files):
        for node in nodes_of(schema):
            if node["__class__"] == "PathTree" and node["__loader__"] == "ObjectNode":
                node["content"]["content"]["parents"]["content"][0]["content"] = "7"

    forge(routed_file, change)
    with pytest.raises(ValueError, match="holds a PathTree that cannot be used: .*parent 7"):
        skquee.load(routed_file)


def test_nothing_stands_in_the_place_of_a_method(routed_file):
    def change(schema, files):
        fields = schema["content"]["content"]
        fields["predict"] = fields["lambda_"]
        kinds = schema["content"]["key_types"]["content"]
        kinds.append(kinds[0])

    forge(routed_file, change)
    with pytest.raises(ValueError, match="has 'predict' in place of its method"):
        skquee.load(routed_file)


def test_types_of_others_are_read_on_request_only(tmp_path):
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    file = tmp_path / "x.skops"
    skops.io.dump(LogisticRegression().fit(X, Y), file)
    with pytest.raises(ValueError, match="holds a sklearn.*LogisticRegression, and nothing of skq"):
        skquee.load(file)
    name = "sklearn.linear_model._logistic.LogisticRegression"
    assert skquee.load(file, trusted=[name]).score(X, Y) > 0.5
    with pytest.raises(TypeError, match="must be a sequence of names"):
        skquee.load(file, trusted=name)
    forge_name = partial(other_class, old="ThresholdRouter", module="subprocess", new="Popen")
    skquee.dump(ThresholdRouter(0.5).fit(CHAIN, CHAIN_LABELS), file)
    forge(file, forge_name)
    with pytest.raises((UntrustedTypesFoundException, ValueError), match=r"subprocess\.Popen"):
        skquee.load(file)


def other_class(schema, files, old, module, new):
    for node in nodes_of(schema):
        if node["__class__"] == old:
            node.update(__module__=module, __class__=new)


def test_names_of_earlier_releases_are_still_read(tmp_path):
    clf = RoutedClassifier(bank(forest()), quick()).fit(X, Y)
    skquee.dump(clf, tmp_path / "x.skops")
    early = {
        "CostAwareRouter": "skquee.routers._router",
        "MultiPathClassifierBank": "skquee.bank._bank",
        "PathTree": "skquee.values",
        "RoutedClassifier": "skquee.routers._routed",
        "_Linear": "skquee.method.gates._classifier",
        "GateInputs": "skquee.a.room.that.is.gone",
    }

    def change(schema, files):
        files.pop("skquee.json")  # not written then
        for node in nodes_of(schema):
            node["__module__"] = early.get(node["__class__"], node["__module__"])

    forge(tmp_path / "x.skops", change)
    np.testing.assert_array_equal(skquee.load(tmp_path / "x.skops").predict(X), clf.predict(X))


# ---------------------------------------------------------------------- trees of scikit-learn


def rewrite(schema: Any, files: Any, key: str, change: Any, owner: str = "Tree") -> None:
    """Change an array, or a number, of every tree."""
    for node in nodes_of(schema):
        if node["__class__"] == owner and node["__loader__"] in ("TreeNode", "ObjectNode"):
            part = node["content"]["content"][key]
            if "file" not in part:
                # Without its number: equal numbers of a file are one object.
                part.update(content=json.dumps(change(json.loads(part["content"]))), __id__=None)
                continue
            array = np.load(io.BytesIO(files[part["file"]]))
            stream = io.BytesIO()
            np.save(stream, change(array))
            files[part["file"]] = stream.getvalue()


def refuse(file: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"not a whole skops file .*{message}"):
        skquee.load(file)


@pytest.mark.parametrize("model", ["tree", "forest", "boosting", "adaboost"])
@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("nodes", lambda nodes: nodes["feature"], "nodes|dtype"),
        ("node_count", lambda count: "a", "says .* nodes"),
        ("values", lambda values: values[:1], "shape|size"),
    ],
)
def test_a_tree_whose_arrays_do_not_fit_is_refused(tmp_path, model, key, change, message):
    skquee.dump(bank(MODELS[model]).fit(X, Y), tmp_path / "x.skops")
    forge(tmp_path / "x.skops", partial(rewrite, key=key, change=change))
    refuse(tmp_path / "x.skops", message)


# ---------------------------------------------------------------------- any damage


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_or_is_the_same(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("damaged") / "x.skops"
    router = ThresholdRouter(0.7).fit(CHAIN, CHAIN_LABELS)
    skquee.dump(router, file)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(bytes(content))
    try:
        loaded = skquee.load(file)
    except ValueError:
        return
    np.testing.assert_array_equal(loaded.predict(CHAIN), router.predict(CHAIN))


LEAVES = st.one_of(
    st.none(), st.integers(-3, 10**12), st.text(max_size=3), st.just([]), st.just({})
)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_description_changed_anywhere_is_refused_or_works(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("forged") / "x.skops"
    router = ThresholdRouter(0.7).fit(CHAIN, CHAIN_LABELS)
    skquee.dump(router, file)

    def change(schema, files):
        places = []

        def visit(part):
            for key, value in part.items() if isinstance(part, dict) else enumerate(part):
                places.append((part, key))
                if isinstance(value, (dict, list)):
                    visit(value)

        visit(schema)
        part, key = data.draw(st.sampled_from(places))
        part[key] = data.draw(LEAVES)

    forge(file, change)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a version that is not said
            loaded = skquee.load(file)
    except (TypeError, ValueError):
        return
    if type(loaded) is ThresholdRouter and vars(loaded).keys() == vars(router).keys():
        try:
            labels = loaded.predict(CHAIN)
        except (TypeError, ValueError):  # other classes, another number of paths
            return
        assert len(labels) == len(CHAIN)
