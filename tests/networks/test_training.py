from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skquee.networks import train_backbone
from skquee.networks._training import train_heads


def test_heads_take_the_literal_step_of_the_scaled_joint_loss():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 20, 4, generator=generator)
    labels = torch.arange(20) % 2
    heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
    for parameter in heads.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    literal = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
    literal.load_state_dict(heads.state_dict())

    optimizer = torch.optim.Adam(literal.parameters(), lr=0.5, weight_decay=0.1)
    loss = F.cross_entropy(literal[2](features[2]), labels)
    for head in range(2):
        loss = loss + (2 + 1 - head) * F.cross_entropy(literal[head](features[head]), labels)
    loss.backward()
    optimizer.step()

    # A validation row for each head that it gets right only after this step, so it is kept.
    candidates = torch.randn(500, 4, generator=generator)
    rows = [
        candidates[(heads[h](candidates).argmax(1) == 1) & (literal[h](candidates).argmax(1) == 0)]
        for h in range(3)
    ]
    accuracies = train_heads(
        heads,
        features,
        labels,
        torch.stack([row[:1] for row in rows]),
        torch.tensor([0]),
        learning_rate=0.5,
        weight_decay=0.1,
        batch_size=20,
        max_epochs=1,
        patience=1,
        generator=generator,
    )
    assert accuracies.tolist() == [1.0, 1.0, 1.0]
    for name, value in literal.state_dict().items():
        torch.testing.assert_close(heads.state_dict()[name], value)


def test_a_head_keeps_its_best_weights_its_first_included_while_others_go_on():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=generator)
    y = (x[:, 0] > 0).long()
    features = x.expand(2, -1, -1)
    heads = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    with torch.no_grad():
        for head, sign in zip(heads, (1000.0, -1.0), strict=True):  # one perfect, one all wrong
            head.weight.copy_(torch.tensor([[-sign, 0.0], [sign, 0.0]]))
            head.bias.zero_()
    perfect = {name: value.clone() for name, value in heads[0].state_dict().items()}
    accuracies = train_heads(
        heads,
        features,
        y,
        features,
        y,
        learning_rate=0.1,
        weight_decay=1.0,
        batch_size=50,
        max_epochs=30,
        patience=12,
        generator=generator,
    )
    assert accuracies[0] == 1.0 and accuracies[1] > 0.95
    for name, value in perfect.items():
        assert torch.equal(heads[0].state_dict()[name], value)


def test_a_backbone_learns_the_same_for_a_seed(digits, make_backbone):
    X, y = digits

    def train(seed):
        backbone = make_backbone(proj_drop_rate=0.1)
        before = torch.get_rng_state()
        train_backbone(backbone, X[:300], y[:300], epochs=20, learning_rate=1e-2, random_state=seed)
        assert torch.equal(torch.get_rng_state(), before)
        with torch.no_grad():
            return backbone(torch.from_numpy(X[300:, None].astype(np.float32) * 2 - 1)).numpy()

    first = train(1)
    assert (first.argmax(axis=1) == y[300:]).mean() > 0.6
    np.testing.assert_array_equal(first, train(1))
    assert not np.array_equal(first, train(2))


def test_a_backbone_of_another_number_of_classes_is_refused(digits, make_backbone):
    with pytest.raises(ValueError, match="n_classes=4"):
        train_backbone(make_backbone(num_classes=4), *digits, epochs=1)
