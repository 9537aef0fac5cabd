#!/usr/bin/env bash
# torchao 0.18.0 (torch 2.14.1): every eager int8 product formats its input as text.
#
# torchao.kernel.safe_int_mm, which Int8DynamicActivationInt8WeightConfig runs for each linear layer on
# a GPU, asks `"FakeTensor" in input.__repr__()`: the text of a real tensor, numbers and all. On a GPU
# that copies to the host and waits, at every layer, so that no CUDA graph can record the layer, and
# eager int8 is far slower than what it replaces: on an H200 (torch 2.11) a ViT of eight layers took 45 ms
# for 64 images where bfloat16 took 2.4 ms eagerly. Under torch.compile the question is skipped.
#
# Seen here, on a CPU: "texts made by 10 products: 10". The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 torchao==0.18.0 numpy==2.4.6
"$folder/env/bin/python" -W ignore - <<'PY'
import torch
from torchao.kernel import safe_int_mm

left = torch.randint(-127, 128, (1088, 384), dtype=torch.int8)
right = torch.randint(-127, 128, (384, 384), dtype=torch.int8)
plain, texts = torch.Tensor.__repr__, []


def noted(self, **options):
    texts.append(plain(self, **options))
    return texts[-1]


torch.Tensor.__repr__ = noted
for _ in range(10):
    answer = safe_int_mm(left, right)
torch.Tensor.__repr__ = plain
assert torch.equal(answer, left.int() @ right.int())
print(f"texts made by 10 products: {len(texts)}")
assert len(texts) == 10 and all("[" in text for text in texts)
PY
