from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skquee.networks import train_backbone
from skquee.networks._training import train_heads
from tests.networks.conftest import make_backbone


def test_heads_take_the_literal_step_of_the_scaled_joint_loss():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 20, 4, generator=generator)
    labels = torch.arange(20) % 2
    heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
    literal = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
    literal.load_state_dict(heads.state_dict())
    # Validation rows that only a head after its first step answers right keep that step.
    optimizer = torch.optim.Adam(literal.parameters(), lr=0.5, weight_decay=0.1)
    loss = F.cross_entropy(literal[2](features[2]), labels)
    for head in range(2):
        loss = loss + (2 + 1 - head) * F.cross_entropy(literal[head](features[head]), labels)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        changed = [
            (literal[h](features[h]).argmax(1) != heads[h](features[h]).argmax(1)).nonzero()[0, 0]
            for h in range(3)
        ]
    row = torch.stack([features[h, changed[h]] for h in range(3)])[:, None]
    # One validation row a head: its label is what the stepped head answers.
    with torch.no_grad():
        answers = torch.stack([literal[h](row[h]).argmax(1) for h in range(3)])
    flipped = torch.where((answers == 0)[:, :, None], row, row)
    del flipped
    accuracies = train_heads(
        heads,
        features,
        labels,
        row,
        answers[0],
        learning_rate=0.5,
        weight_decay=0.1,
        batch_size=20,
        max_epochs=1,
        patience=1,
        generator=generator,
    )
    assert accuracies.shape == (3,)
