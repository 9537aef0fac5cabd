"""A classifier behind LitServe, in batches, for ``serve_load.py --beside litserve``."""

from __future__ import annotations

import sys

import litserve
import numpy as np
from numpy.typing import NDArray

import skquee


class Served(litserve.LitAPI):
    """Answers a row with its label, path and cost, as ``skquee serve`` does."""

    def setup(self, device: str) -> None:
        self.classifier = skquee.load(sys.argv[1])

    # LitServe takes the name of an annotation here for a parameter in the address.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["rows"][0]

    def batch(self, inputs: list[list[float]]) -> NDArray[np.float64]:
        return np.array(inputs)

    def predict(self, x: NDArray[np.float64]) -> list[dict[str, list[object]]]:
        routes = self.classifier.route(x)
        told = zip(
            routes.labels.tolist(), routes.path_names.tolist(), routes.costs.tolist(), strict=True
        )
        return [{"labels": [a], "paths": [b], "costs": [c]} for a, b, c in told]

    def unbatch(self, output: list[dict[str, list[object]]]) -> list[dict[str, list[object]]]:
        return output

    def encode_response(self, output: dict[str, list[object]]) -> dict[str, list[object]]:
        return output


if __name__ == "__main__":
    api = Served(max_batch_size=256, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
    )
