"""One network with exits, against itself on every engine and against single paths."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from _rows import Row, Run, engines_of, measured_rows, test_images

from skquee import MultiPathClassifierBank, PathProbabilities
from skquee.networks import MultiExitNetwork
from skquee.speed._runs import along, answers, float_run


def exit_rows(
    what: str,
    network: MultiExitNetwork,
    sizes: Sequence[int],
    *,
    n_images: int = 5000,
    **options: Any,
) -> list[Row]:
    """Measure a network with heads. `options`: of ``measured_rows``."""
    test = test_images(n_images)
    whole = copy.copy(network)
    whole.compile(("int8", "fp32"), calibration=test.calibration, batch_size=max(sizes))
    columns = whole.paths_.names
    table = np.asarray(MultiPathClassifierBank(whole, batch_size=256).materialize(test.images))
    known = dict(zip(columns, (table.argmax(axis=2) == test.y[:, None]).mean(axis=0), strict=True))
    for name, own in known.items():
        print(f"  {name}: {own:.2%}", flush=True)
    held = network.start(test.held)
    others = engines_of(network, test.calibration, held[:2])
    right = answers(network, float_run(network), network.rows(test.images)) == test.y
    every = slice(None, None, max(1, n_images // 2000))
    found = []
    for size in sizes:
        # Engines are chosen, and timed, for that many images.
        own = copy.copy(network)
        own.compile(whole.levels_, calibration=test.calibration, batch_size=size)
        own.measure_costs((size,))
        print("  kept:", dict(own.runtimes_))
        costs = own.path_costs("latency", batch_size=size)
        tree = own.paths_.with_costs(costs, cost_unit="ms")
        bank = MultiPathClassifierBank(own, path_costs=costs, cost_unit="ms")
        mine = PathProbabilities(table[:, [columns.index(name) for name in tree.names]], tree)
        runs = {
            name: along(own, [tree.levels[prefix] for prefix in tree.prefixes(path)])
            for path, name in enumerate(tree.names)
        }
        fixed = {
            f"{level}, every block": along(own, [level] * len(own.flops_)) for level in own.levels_
        }
        found += measured_rows(
            what,
            (size,),
            partial(_same, bank, mine),
            network=own,
            y=test.y,
            right=right,
            fixed={**fixed, **others},
            fixed_accuracy=partial(
                _accuracy, own, {**fixed, **others}, test.images[every], test.y[every]
            ),
            singles={name: (float(known[name]), run) for name, run in runs.items()},
            held=held,
            **options,
        )
    return found


def _same(bank: MultiPathClassifierBank, table: PathProbabilities, size: int) -> tuple[Any, Any]:
    return bank, table


def _accuracy(
    network: MultiExitNetwork, runs: Mapping[str, Run], images: Any, y: Any, name: str
) -> float:
    return float((answers(network, runs[name], network.rows(images)) == y).mean())
