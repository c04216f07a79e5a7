"""Runs the fake configuration in a process of its own: python run_fake.py WORKDIR {parity|ok} [override ...]."""

import sys

import fakes

from tinykit.train import exit_code, train

if __name__ == "__main__":
    workdir, mode, *overrides = sys.argv[1:]
    services = fakes.FakeServices(parity="3 elements differ" if mode == "parity" else None)

    def work() -> None:
        train(fakes.config(*overrides), workdir, command="fake", services=services)

    sys.exit(exit_code(work))
