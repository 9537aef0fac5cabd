"""``skquee bench``: what routing gains on the clock."""

from __future__ import annotations

import argparse

import numpy as np

from skquee.cli._bank import load_network, read_images, take_images
from skquee.networks import MultiExitNetwork
from skquee.speed._measure import measure_speed
from skquee.speed._page import speed_text, write_speed
from skquee.speed._verdict import speed_verdict


def run_bench(options: argparse.Namespace) -> None:
    """Measure, print one table, and write it where asked."""
    network = load_network(options.network, None)
    X, y = read_images(options.data)
    test = np.arange(len(y))
    if options.validation is not None:
        validation = read_images(options.validation)
    else:
        rows = np.random.default_rng(options.seed).permutation(len(y))
        held, test = rows[: len(y) // 3], np.sort(rows[len(y) // 3 :])
        validation = take_images(X, held), y[held]
    images, labels = take_images(X, test), y[test]
    if isinstance(network, MultiExitNetwork):
        some = np.arange(min(128, len(validation[1])))
        network.compile(options.levels, calibration=take_images(validation[0], some))
    found = measure_speed(
        network,
        validation,
        (images, labels),
        batch_sizes=options.batch_sizes,
        threads=options.threads,
        compiled=not options.no_compile,
        repeats=options.repeats,
        random_state=options.seed,
    )
    print(f"On {network.latency_.machine}; levels kept: {', '.join(map(str, network.levels_))}.\n")
    print(speed_text(found))
    print(speed_verdict(found, max_loss=options.max_loss))
    if options.out is not None:
        write_speed(found, options.out)
        print(f"\nSaved {options.out} and {options.out.with_suffix('.png')}")
