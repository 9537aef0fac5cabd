from __future__ import annotations

import pytest
import torch
from torch import nn

from skquee.networks import MultiExitNetwork
from skquee.networks._execution import choose_device, run_in_parts


class Greedy(nn.Module):
    """Runs out of memory for more than `most` rows, as a GPU does."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return x * 2


def test_rows_that_do_not_fit_run_in_smaller_parts_and_stay_in_order():
    module, x = Greedy(3), torch.arange(10.0)
    torch.testing.assert_close(run_in_parts(module, x), x * 2)
    assert module.sizes == [10, 5, 3, 2, 5, 3, 2]


def test_one_row_that_does_not_fit_is_a_clear_error():
    with pytest.raises(MemoryError, match="One image does not fit in the memory of cpu: CUDA out"):
        run_in_parts(Greedy(0), torch.arange(4.0))


def test_a_network_survives_a_device_that_is_too_small(network, digits, monkeypatch):
    state = network.start(digits[0][:9])
    expected = network.run_block(state, 0, 8)
    block = network.parts_.levels[8][0]
    run = type(block).forward

    def limited(self, x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(self, x)

    monkeypatch.setattr(type(block), "forward", limited)
    torch.testing.assert_close(network.run_block(state, 0, 8), expected)


def test_a_device_that_is_not_there_is_refused(digits, make_backbone):
    assert choose_device("cpu") == torch.device("cpu")
    network = MultiExitNetwork(make_backbone(), exits=(3,), device="nonsense")
    with pytest.raises(ValueError, match="device='nonsense' cannot be used here"):
        network.fit(*digits)
