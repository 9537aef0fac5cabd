from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from skquee.datasets import (
    _fetch,
    fetch_cifar10_resnet,
    fetch_frugalml,
    fetch_routellm,
    fetch_trec,
)

CONTENT = {
    "trec": {"TREC.train.all": b"3 what is it ?\n0 who \xe9 ?\n", "TREC.test.all": b"5 why ?\n"},
    "frugalml_yelp": {
        "meta.csv": b"Index,MLaaS(API),Cost per 10k images,class number\n"
        b"3,Dear,5,2\n7,Free(X),0.1,2",
        "Model3_PredictedLabel.txt": b"1\n0\n",
        "Model3_Confidence.txt": b"9.0e-01\n5.0e-01\n",
        "Model7_PredictedLabel.txt": b"0\n0\n",
        "Model7_Confidence.txt": b"6.0e-01\n7.0e-01\n",
        "Model0_TrueLabel.txt": b"1\n0\n",
    },
    "routellm_mmlu": {
        "mmlu_law.csv": b"prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
        b'"a ""b""\nAnswer:",True,False\n',
        "mmlu_art.csv": b"prompt,mistralai/Mixtral-8x7B-Instruct-v0.1,gpt-4-1106-preview\n"
        b"c,False,True\n",
    },
    "cifar10_resnet": {"resnet20-00000000.th": b"weights"},
}


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """Give the folder that stands for the network: files at file:// addresses."""
    folder, told = tmp_path / "origin", {}
    folder.mkdir()
    for name, contents in CONTENT.items():
        for file, content in contents.items():
            (folder / file).write_bytes(content)
        digests = {f: hashlib.sha256(c).hexdigest() for f, c in contents.items()}
        told[name] = {"address": folder.as_uri() + "/", "files": digests}
    monkeypatch.setattr(_fetch, "sources", lambda: told)
    return folder


def test_what_was_fetched_is_kept(origin, tmp_path):
    questions = fetch_trec(data_home=tmp_path / "home")
    assert questions.data == ["what is it ?", "who é ?"]
    assert questions.target.tolist() == [3, 0]
    assert (questions.test_data, questions.test_target.tolist()) == (["why ?"], [5])
    for file in origin.iterdir():
        file.unlink()
    assert fetch_trec(data_home=tmp_path / "home").data == questions.data


def test_services_come_cheapest_first(origin, tmp_path):
    found = fetch_frugalml("YELP", data_home=tmp_path / "home")
    assert found.names == ["Free", "Dear"]
    assert found.prices.tolist() == [0.1, 5]
    np.testing.assert_array_equal(found.predictions, [[0, 1], [0, 0]])
    np.testing.assert_allclose(found.scores, [[0.6, 0.9], [0.7, 0.5]])
    assert found.labels.tolist() == [1, 0]


def test_outcomes_know_their_subject(origin, tmp_path):
    found = fetch_routellm("mmlu", data_home=tmp_path / "home")
    assert found.prompts == ["c", 'a "b"\nAnswer:']
    assert found.subjects == ["art", "law"]
    assert found.correct.tolist() == [[False, True], [True, False]]


def test_weights_are_a_file(origin, tmp_path):
    assert fetch_cifar10_resnet(20, data_home=tmp_path / "home").read_bytes() == b"weights"


def test_a_damaged_file_is_fetched_again(origin, tmp_path):
    file = fetch_cifar10_resnet(20, data_home=tmp_path / "home")
    file.write_bytes(b"half")
    assert fetch_cifar10_resnet(20, data_home=tmp_path / "home").read_bytes() == b"weights"


def test_what_is_not_the_file_is_not_kept(origin, tmp_path):
    (origin / "TREC.test.all").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"14 bytes of SHA-256 .*, expected .*nothing was kept"):
        fetch_trec(data_home=tmp_path / "home")
    kept = [file.name for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert kept == ["TREC.train.all"]


def test_without_a_network_the_message_says_where_to_put_the_file(origin, tmp_path):
    (origin / "TREC.train.all").unlink()
    place = re.escape(repr(str(tmp_path / "home" / "skquee" / "trec")))
    with pytest.raises(OSError, match=rf"is not in {place} and could not be fetched from file:"):
        fetch_trec(data_home=tmp_path / "home")


def test_without_a_network_a_damaged_file_is_told_from_a_missing_one(origin, tmp_path):
    file = fetch_cifar10_resnet(20, data_home=tmp_path / "home")
    file.write_bytes(b"half")
    (origin / file.name).unlink()
    with pytest.raises(OSError, match="has another SHA-256 than it should in .*put the right file"):
        fetch_cifar10_resnet(20, data_home=tmp_path / "home")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fetch_frugalml("FER"), "name must be one of"),
        (lambda: fetch_routellm("arc"), "name must be one of"),
        (lambda: fetch_cifar10_resnet(18), r"depth must be one of \[20, 32, 44, 56\], got 18"),
    ],
)
def test_another_name_fails(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_addresses_name_a_commit_and_weights_their_checksum():
    for source in _fetch.sources().values():
        assert re.fullmatch(r"https://[\w./-]+/[0-9a-f]{40}/[\w/-]+/", source["address"])
        for file, digest in source["files"].items():
            assert file == Path(file).name
            assert re.fullmatch("[0-9a-f]{64}", digest)
            if file.endswith(".th"):
                assert digest.startswith(file.split("-")[1][:8])
