"""Random Keras networks of every supported layer: Keras = reference on every tensor, reference = TFLM on every tensor.

Example:
    python benchmarks/fuzz_exact.py --networks 200 --seed 1000

Prints one line a failure, and the totals; writes them to benchmarks/fuzz_exact.md. Exit code 1 where anything differs.
"""

import argparse
import collections
import datetime
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "quant"))


def check(build, seed: int, counts: collections.Counter) -> list[str]:
    """Differences of one network, as text."""
    import networks

    from tinykit.graph import reference
    from tinykit.verify.compare import compare_tflm

    model = build(seed)
    x = networks.samples(model, seed, 24)
    quantized = networks.quantized(model, x)
    wrong, elements, graph = networks.mismatches(quantized, x)
    tflm = compare_tflm(graph, None, reference.quantize_input(graph, x[:6]), tensors="all")
    counts["networks"] += 1
    counts["Keras vs reference"] += elements
    counts["TFLM vs reference"] += tflm.elements
    for op in graph.ops:
        counts[f"op {op.kind}"] += 1
    found = [f"{build.__name__}({seed}): Keras vs reference, {k}: {v}" for k, v in wrong.items() if v]
    return found + ([f"{build.__name__}({seed}): TFLM vs reference: {tflm}"] if tflm.mismatches else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    import networks

    counts: collections.Counter = collections.Counter()
    bad: list[str] = []
    for i in range(options.networks):
        build = networks.sequence_network if i % 5 == 4 else networks.image_network
        found = check(build, options.seed + i, counts)
        for line in found:
            print(line, flush=True)
        bad += found
    ops = ", ".join(f"{k[3:]} {v}" for k, v in sorted(counts.items()) if k.startswith("op "))
    text = (
        f"# Random networks\n\n{datetime.date.today().isoformat()}, `python benchmarks/fuzz_exact.py --networks {options.networks} "
        f"--seed {options.seed}`, measured on the host\n\n"
        f"* {counts['networks']} networks, {len(bad)} with differences\n"
        f"* Keras vs reference: {counts['Keras vs reference']:,} elements, every tensor\n"
        f"* TFLM vs reference: {counts['TFLM vs reference']:,} elements, every tensor\n* operations: {ops}\n"
    )
    print(text)
    (HERE / "fuzz_exact.md").write_text(text, encoding="utf-8")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
