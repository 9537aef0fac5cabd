"""One network with exits, against itself on every engine and against single paths."""

from __future__ import annotations

from collections.abc import Sequence

from _data import load_images
from _rows import Row, Run, accurate, engines_of, halves, measured_row, promising

from skquee import MultiPathClassifierBank
from skquee.networks import MultiExitNetwork
from skquee.router import default_router
from skquee.speed._runs import along, answers, float_run

CALIBRATION = 256  # images for the ranges of int8
CALLS, SINGLE = 512, 96  # images of a round; where each is a call


def exit_rows(
    what: str,
    network: MultiExitNetwork,
    sizes: Sequence[int],
    *,
    loss: float,
    allowed: float,
    n_images: int = 5000,
    rounds: int = 7,
) -> list[Row]:
    """Measure a network with heads: see ``cascade_rows``."""
    images, y = (part[:: 10_000 // n_images] for part in load_images("cifar10", "test"))
    first, second = halves(len(y))
    calibration = images[first[:CALIBRATION]]
    network.compile(("int8", "fp32"), calibration=calibration)
    network.measure_costs(sizes)
    print("  kept:", dict(network.runtimes_))
    whole = MultiPathClassifierBank(network, batch_size=max(sizes))
    table, tree = whole.materialize(images), network.paths_
    right = answers(network, float_run(network), network.rows(images)) == y
    singles: dict[str, tuple[float, Run]] = {}
    for path, name in enumerate(tree.names):
        steps = [tree.levels[prefix] for prefix in tree.prefixes(path)]
        own = float((table.path(path).argmax(axis=1) == y).mean())
        singles[name] = own, along(network, steps)
        print(f"  {name}: {own:.2%}", flush=True)
    held = network.start(images[second[:CALLS]])
    fixed = {
        f"{level}, every block": along(network, [level] * len(network.flops_))
        for level in network.levels_
    }
    fixed |= engines_of(network, calibration, held[:2])

    def accuracy_of(name: str) -> float:
        found = answers(network, fixed[name], network.rows(images[:: max(1, len(y) // 2000)]))
        return float((found == y[:: max(1, len(y) // 2000)]).mean())

    start = held[: max(sizes[0], 64)]
    # Single images take other shares of the time: engines further behind take part, too.
    fixed = promising(fixed, start, hopeless=3)
    singles = accurate(singles, right.mean() - allowed, start)
    found = []
    for size in sizes:
        costs = network.path_costs("latency", batch_size=size)
        bank = MultiPathClassifierBank(network, path_costs=costs, cost_unit="ms")
        rows = held[:SINGLE] if size == 1 else held
        row = measured_row(
            what,
            size,
            bank=bank,
            networks=[network],
            router=default_router(1.0, answer="ensemble"),
            table=table.with_paths(tree.with_costs(costs, cost_unit="ms")),
            y=y,
            right=right,
            aim=loss,
            fixed=fixed,
            fixed_accuracy=accuracy_of,
            singles=singles,
            batches=[rows[n : n + size] for n in range(0, len(rows) - size + 1, size)],
            rounds=rounds,
        )
        print(row, flush=True)
        found.append(row)
    return found
