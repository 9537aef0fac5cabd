"""One network with exits, against itself on every engine and against single paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from _rows import Row, Run, engines_of, measured_rows, test_images

from skquee import MultiPathClassifierBank
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
    network.compile(("int8", "fp32"), calibration=test.calibration)
    network.measure_costs(sizes)
    print("  kept:", dict(network.runtimes_))
    whole = MultiPathClassifierBank(network, batch_size=max(sizes))
    table, tree = whole.materialize(test.images), network.paths_
    rows = network.rows(test.images)
    singles: dict[str, tuple[float, Run]] = {}
    for path, name in enumerate(tree.names):
        steps = [tree.levels[prefix] for prefix in tree.prefixes(path)]
        own = float((table.path(path).argmax(axis=1) == test.y).mean())
        singles[name] = own, along(network, steps)
        print(f"  {name}: {own:.2%}", flush=True)
    held = network.start(test.held)
    fixed = {
        f"{level}, every block": along(network, [level] * len(network.flops_))
        for level in network.levels_
    }
    fixed |= engines_of(network, test.calibration, held[:2])
    every = slice(None, None, max(1, n_images // 2000))

    def fixed_accuracy(name: str) -> float:
        found = answers(network, fixed[name], network.rows(test.images[every]))
        return float((found == test.y[every]).mean())

    def at(size: int) -> tuple[MultiPathClassifierBank, Any]:
        costs = network.path_costs("latency", batch_size=size)
        bank = MultiPathClassifierBank(network, path_costs=costs, cost_unit="ms")
        return bank, table.with_paths(tree.with_costs(costs, cost_unit="ms"))

    return measured_rows(
        what,
        sizes,
        at,
        network=network,
        y=test.y,
        right=answers(network, float_run(network), rows) == test.y,
        fixed=fixed,
        fixed_accuracy=fixed_accuracy,
        singles=singles,
        held=held,
        # Single images take other shares of the time: engines further behind take part, too.
        hopeless=3,
        **options,
    )
