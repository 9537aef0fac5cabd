"""Real data that anyone can fetch: files at fixed commits, each with its checksum."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TypedDict
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from skquee.values._atomic import whole_file
from skquee.values._checks import check_option

__all__ = ["fetch_cifar10_resnet", "fetch_frugalml", "fetch_routellm", "fetch_trec"]

SECONDS = 60.0  # without a byte, before a fetch gives up
Home = str | os.PathLike[str] | None


class Source(TypedDict):
    """Where the files of a data set are, and what they hold: SHA-256 by name."""

    address: str
    files: dict[str, str]


@cache
def sources() -> dict[str, Source]:
    """Return all sources: addresses name a commit, so that files cannot change behind them."""
    text = files("skquee.datasets").joinpath("sources.json").read_text(encoding="utf-8")
    found: dict[str, Source] = json.loads(text)
    return found


def fetch_files(name: str, data_home: Home = None, only: str | None = None) -> dict[str, Path]:
    """Return the files of a source by name, fetching what is not there whole already."""
    source = sources()[name]
    folder = Path(get_data_home(None if data_home is None else os.fspath(data_home)))
    folder = folder / "skquee" / name
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for file, digest in source["files"].items():
        if only is None or file == only:
            found[file] = folder / file
            if not _is_whole(folder / file, digest):
                _fetch(source["address"] + file, folder / file, digest)
    return found


def _is_whole(file: Path, digest: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest


def _fetch(address: str, file: Path, digest: str) -> None:
    try:
        with urlopen(address, timeout=SECONDS) as answer:
            content = answer.read()
    except (URLError, OSError) as error:
        kept = "has another SHA-256 than it should" if file.is_file() else "is not"
        raise OSError(
            f"{file.name} {kept} in {str(file.parent)!r} and could not be fetched from {address} "
            f"({error}). Call again with a network, or put the right file there yourself."
        ) from error
    seen = hashlib.sha256(content).hexdigest()
    if seen != digest:
        raise ValueError(
            f"{address} sent {len(content)} bytes of SHA-256 {seen}, expected {digest}; nothing "
            "was kept. Try again, or put the right file at " + repr(str(file)) + "."
        )
    with whole_file(file) as stream:
        stream.write(content)


def fetch_trec(*, data_home: Home = None) -> Bunch:
    """Fetch the questions of TREC, each of one of six types: 0.3 MB.

    Parameters
    ----------
    data_home : path, default=None
        Folder to keep them in. Default: scikit-learn's,
        :func:`sklearn.datasets.get_data_home`.

    Returns
    -------
    Bunch
        ``data`` and ``test_data``, lists of 5,452 and 500 str; ``target`` and ``test_target``,
        arrays of int from 0 to 5.

    Raises
    ------
    OSError
        If they are neither kept nor can be fetched; the message says where to put them.
    ValueError
        If what was fetched is not what it should be, by its checksum.

    References
    ----------
    Li and Roth, "Learning question classifiers", COLING 2002, in the form of
    https://github.com/harvardnlp/sent-conv-torch

    Examples
    --------
    >>> from skquee.datasets import fetch_trec
    >>> questions = fetch_trec()  # doctest: +SKIP
    >>> len(questions.data)  # doctest: +SKIP
    5452
    """
    kept = fetch_files("trec", data_home)
    (texts, labels), (test_texts, test_labels) = (
        _read_labelled(kept[f"TREC.{part}.all"]) for part in ("train", "test")
    )
    return Bunch(data=texts, target=labels, test_data=test_texts, test_target=test_labels)


def _read_labelled(file: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Return the texts and labels of lines such as ``"3 What is ...?"``."""
    rows = [line.split(" ", 1) for line in file.read_text(encoding="latin-1").splitlines()]
    return [text for _, text in rows], np.array([int(label) for label, _ in rows])


def fetch_frugalml(name: str = "FERPLUS", *, data_home: Home = None) -> Bunch:
    """Fetch what four commercial services answered, row by row: 1 to 3 MB.

    Parameters
    ----------
    name : {"FERPLUS", "YELP", "IMDB"}, default="FERPLUS"
        Expressions of 6,358 faces; the mood of 20,000 and of 25,000 reviews.
    data_home : path, default=None
        Folder to keep them in. Default: scikit-learn's.

    Returns
    -------
    Bunch
        ``labels``, ndarray of shape (n_samples,), the truth; ``predictions`` and ``scores``,
        (n_samples, 4), each service's label and how sure it was, on a scale of its own; ``names``
        of the services and ``prices``, dollars for 10,000 calls, cheapest first.

    Raises
    ------
    OSError
        If they are neither kept nor can be fetched; the message says where to put them.
    ValueError
        If `name` is another, or what was fetched is not what it should be.

    References
    ----------
    Chen, Zaharia and Zou, "FrugalML", NeurIPS 2020, https://arxiv.org/abs/2006.07512

    Examples
    --------
    >>> from skquee.datasets import fetch_frugalml
    >>> faces = fetch_frugalml("FERPLUS")  # doctest: +SKIP
    >>> faces.predictions.shape  # doctest: +SKIP
    (6358, 4)
    """
    check_option(name, "name", ("FERPLUS", "YELP", "IMDB"))
    kept = fetch_files(f"frugalml_{name.lower()}", data_home)
    with kept["meta.csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    services = sorted((float(row[2]), row[1], row[0]) for row in rows if row)
    answers, scores = (
        np.column_stack([np.loadtxt(kept[f"Model{i}_{kind}.txt"]) for _, _, i in services])
        for kind in ("PredictedLabel", "Confidence")
    )
    return Bunch(
        labels=np.loadtxt(kept["Model0_TrueLabel.txt"]).astype(int),
        predictions=answers.astype(int),
        scores=scores,
        names=[service.split("(")[0] for _, service, _ in services],
        prices=np.array([price for price, _, _ in services]),
    )


def fetch_routellm(name: str = "gsm8k", *, data_home: Home = None) -> Bunch:
    """Fetch whether a small and a large language model were right: 1.3 or 6 MB.

    Parameters
    ----------
    name : {"gsm8k", "mmlu"}, default="gsm8k"
        1,319 word problems, or 14,042 questions of 57 subjects, one file each.
    data_home : path, default=None
        Folder to keep them in. Default: scikit-learn's.

    Returns
    -------
    Bunch
        ``prompts`` and ``subjects``, lists of str; ``correct``, ndarray of bool of shape
        (n_samples, 2); ``names`` of the two models. There are no prices.

    Raises
    ------
    OSError
        If they are neither kept nor can be fetched; the message says where to put them.
    ValueError
        If `name` is another, or what was fetched is not what it should be.

    References
    ----------
    Ong et al., "RouteLLM", 2024, https://arxiv.org/abs/2406.18665

    Examples
    --------
    >>> from skquee.datasets import fetch_routellm
    >>> problems = fetch_routellm("gsm8k")  # doctest: +SKIP
    >>> problems.correct.mean(axis=0).round(3)  # doctest: +SKIP
    array([0.638, 0.857])
    """
    check_option(name, "name", ("gsm8k", "mmlu"))
    rows = list(_read_outcomes(fetch_files(f"routellm_{name}", data_home)))
    return Bunch(
        prompts=[prompt for prompt, _, _ in rows],
        subjects=[subject for _, subject, _ in rows],
        correct=np.array([correct for _, _, correct in rows]),
        names=["Mixtral 8x7B", "GPT-4"],
    )


def _read_outcomes(kept: dict[str, Path]) -> Iterator[tuple[str, str, list[bool]]]:
    """Yield prompt, subject and who was right."""
    models = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    for name, path in sorted(kept.items()):
        subject = name.removeprefix("mmlu_").removesuffix(".csv")
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield row["prompt"], subject, [row[model] == "True" for model in models]


def fetch_cifar10_resnet(depth: int = 20, *, data_home: Home = None) -> Path:
    """Fetch the weights of a residual network trained on CIFAR-10: 1 to 3.5 MB.

    Parameters
    ----------
    depth : {20, 32, 44, 56}, default=20
        Layers.
    data_home : path, default=None
        Folder to keep it in. Default: scikit-learn's.

    Returns
    -------
    Path
        Of a checkpoint that ``torch.load(weights_only=True)`` reads.

    Raises
    ------
    OSError
        If it is neither kept nor can be fetched; the message says where to put it.
    ValueError
        If `depth` is another, or what was fetched is not what it should be.

    References
    ----------
    Idelbayev, https://github.com/akamaster/pytorch_resnet_cifar10

    Examples
    --------
    >>> from skquee.datasets import fetch_cifar10_resnet
    >>> fetch_cifar10_resnet(20).name  # doctest: +SKIP
    'resnet20-12fca82f.th'
    """
    by_depth = {int(f[6:8]): f for f in sources()["cifar10_resnet"]["files"]}
    if depth not in by_depth:
        raise ValueError(f"depth must be one of {sorted(by_depth)}, got {depth!r}.")
    return fetch_files("cifar10_resnet", data_home, by_depth[depth])[by_depth[depth]]
