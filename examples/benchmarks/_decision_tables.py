"""The real tables that decisions are judged on: probabilities of every path, and labels."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

sys.path.append(str(Path(__file__).resolve().parents[1]))
from _data import cache_folder, find_data, load_images

from skquee import PathProbabilities, PathTree


@dataclass
class Split:
    """Rows to fit on, rows to judge on."""

    fit: PathProbabilities
    y_fit: np.ndarray
    test: PathProbabilities
    y_test: np.ndarray


Maker = Callable[[int], Split]


def rows_of(n: int, n_fit: int, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.random.default_rng(seed).permutation(n)
    n_fit = min(n_fit, n // 2)
    return rows[:n_fit], rows[n_fit : n_fit + n_test]


def halves(table: PathProbabilities, y: np.ndarray, seed: int, n_fit: int, n_test: int) -> Split:
    fit, test = rows_of(len(y), n_fit, n_test, seed)
    return Split(table[fit], y[fit], table[test], y[test])


# ---------------------------------------------------------------------- commercial services


def services(name: str, seed: int, n_fit: int, n_test: int) -> Split:
    """Four services of one FrugalML task; scores are recalibrated on the rows to fit on."""
    with np.load(find_data("frugalml_api_tables") / f"{name}.npz") as archive:
        content = {key: archive[key] for key in archive.files}
    lines = list(csv.reader(str(content["meta_csv"]).strip().splitlines()))[1:]
    ordered = sorted((float(price), service, index) for index, service, price, _ in lines)
    prices, names, indices = zip(*ordered, strict=True)
    labels = np.column_stack([content[f"Model{i}_prediction"] for i in indices])
    scores = np.column_stack([content[f"Model{i}_confidence"] for i in indices])
    y = content["labels"]
    fit, test = rows_of(len(y), n_fit, n_test, seed)
    for column in range(scores.shape[1]):
        right = labels[fit, column] == y[fit]
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        scores[:, column] = model.fit(scores[fit, column], right).predict(scores[:, column])
    tree = PathTree.cascade(prices, names=[name.split("(")[0] for name in names])
    classes = np.unique(np.append(labels, y)).tolist()
    table = PathProbabilities.from_labels(labels, scores, classes, paths=tree)
    return Split(table[fit], y[fit], table[test], y[test])


# ---------------------------------------------------------------------- texts

# Milliseconds a text of the three models, measured once by examples/plot_text_cascade.py.
TEXT_COSTS = (0.009, 0.013, 0.14)


def texts_of(name: str) -> tuple[list[str], np.ndarray]:
    folder = find_data("text_classification")
    if name == "ag_news":
        with gzip.open(folder / "ag_news/test.csv.gz", "rt", encoding="utf8", newline="") as lines:
            rows = list(csv.reader(lines))
        return [" ".join(row[1:]) for row in rows], np.array([int(row[0]) for row in rows])
    file = "TREC.train.all.gz" if name == "TREC" else f"{name}.all.gz"
    with gzip.open(folder / "sent_conv" / file, "rt", encoding="latin-1") as lines:
        pairs = [line.rstrip("\n").split(" ", 1) for line in lines]
    return [text for _, text in pairs], np.array([int(label) for label, _ in pairs])


def text_models(name: str, seed: int, n_fit: int, n_test: int) -> Split:
    """Naive Bayes, words and letters, trained on 2,000 texts that are neither fit nor test."""
    texts, y = texts_of(name)
    words = np.array(texts, dtype=object)
    train, rest = train_test_split(np.arange(len(y)), train_size=2000, stratify=y, random_state=0)
    file = cache_folder() / f"decisions_{name}.npy"
    tree = PathTree.cascade(TEXT_COSTS, names=["bayes", "words", "letters"])
    tree = tree.with_classes(np.unique(y).tolist())
    if not file.exists():
        models = [
            make_pipeline(CountVectorizer(binary=True), MultinomialNB(alpha=0.3)),
            make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)),
            make_pipeline(
                make_union(
                    TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 3), sublinear_tf=True),
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
                ),
                CalibratedClassifierCV(LinearSVC(C=0.5), ensemble=False),
            ),
        ]
        found = [m.fit(words[train], y[train]).predict_proba(words[rest]) for m in models]
        np.save(file, np.stack(found, axis=1).astype(np.float32))
    return halves(PathProbabilities(np.load(file), tree), y[rest], seed, n_fit, n_test)


# ---------------------------------------------------------------------- networks


def exits_of(name: str, seed: int, n_fit: int, n_test: int) -> Split:
    """T2T-ViT-7 with three exits at 5, 4 and 3 bits: the tables of examples/*_t2t_vit.py."""
    held = PathProbabilities.load(cache_folder() / f"{name}_t2t_vit_7_val.npy")
    test = PathProbabilities.load(cache_folder() / f"{name}_t2t_vit_7_test.npy")
    rows = np.random.default_rng(0).permutation(50_000)[:5000]
    y_held, y_test = load_images(name, "train")[1][rows], load_images(name, "test")[1]
    random = np.random.default_rng(seed)
    fit = random.permutation(len(y_held))[:n_fit]
    judged = random.permutation(len(y_test))[:n_test]
    return Split(held[fit], y_held[fit], test[judged], y_test[judged])


def resnets(seed: int, n_fit: int, n_test: int) -> Split:
    """ResNet-20, 32, 44 and 56: the table of examples/plot_cifar10_resnets.py."""
    table = PathProbabilities.load(cache_folder() / "cifar10_test_resnets.npy")
    return halves(table, load_images("cifar10", "test")[1], seed, n_fit, n_test)


# ---------------------------------------------------------------------- language models


def language_models(name: str, seed: int, n_fit: int, n_test: int) -> Split:
    """Mixtral or GPT-4 by the prompt alone: nobody can tell from an answer whether it is right.

    Both "answer" the same class at the same confidence, whatever they said; who is right shows
    in the label: 0 both, 1 GPT-4 alone, 2 Mixtral alone, 3 neither. Two paths, no gate between.
    """
    file = find_data("llm_routing_tables") / f"routellm_{name}.csv.gz"
    with gzip.open(file, "rt", newline="", encoding="utf8") as lines:
        rows = list(csv.DictReader(lines))
    small = np.array([row["mixtral_8x7b_correct"] in ("True", "1", "1.0") for row in rows])
    large = np.array([row["gpt4_1106_correct"] in ("True", "1", "1.0") for row in rows])
    prompts = [row["prompt"] for row in rows]
    vectors = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=3), TruncatedSVD(24, random_state=0)
    ).fit_transform(prompts)
    context = np.column_stack([vectors, np.log1p([len(prompt) for prompt in prompts])])
    # Each question is asked of both; a row is right for a model where its label is that model's.
    tree = PathTree.from_paths([("mixtral",), ("gpt-4",)], path_costs=[0.025, 1.0])
    y = np.where(small, 0, np.where(large, 1, 2))
    values = np.zeros((len(y), 2, 3), dtype=np.float32)
    values[:, 0] = (0.6, 0.2, 0.2)
    # GPT-4 repeats Mixtral's class where both are right, which the label cannot say twice.
    values[:, 1] = np.where((small & large)[:, None], (0.6, 0.2, 0.2), (0.2, 0.6, 0.2))
    table = PathProbabilities(values, tree.with_classes([0, 1, 2])).with_context(context)
    return halves(table, y, seed, n_fit, n_test)


def tables(n_fit: int, n_test: int) -> dict[str, Maker]:
    """Return what is at hand, by name: seed to split."""
    sizes = {"n_fit": n_fit, "n_test": n_test}
    found: dict[str, Maker] = {}
    if find_data("frugalml_api_tables"):
        for name in ("FERPLUS", "YELP", "IMDB", "COMMAND"):
            found[name] = partial(services, name, **sizes)
    if find_data("text_classification"):
        for name in ("TREC", "ag_news", "subj", "mpqa", "rt-polarity"):
            found[name] = partial(text_models, name, **sizes)
    if find_data("cifar10"):
        for name in ("cifar10", "cifar100"):
            if (cache_folder() / f"{name}_t2t_vit_7_val.npy").exists():
                found[f"{name}, exits"] = partial(exits_of, name, **sizes)
        if (cache_folder() / "cifar10_test_resnets.npy").exists():
            found["cifar10, ResNets"] = partial(resnets, **sizes)
    if find_data("llm_routing_tables"):
        for name in ("mmlu", "gsm8k"):
            found[name] = partial(language_models, name, **sizes)
    return found
