"""Made-up reports for the tests of tinykit.report. No number in here was ever measured."""

import numpy as np

from tinykit.report.data import ReportData

DIGITS = [str(digit) for digit in range(10)]


def full() -> ReportData:
    """Every section filled."""
    rng = np.random.default_rng(7)
    wrong = (rng.random((10, 10)) < 0.1) * rng.integers(1, 3, (10, 10)) * (1 - np.eye(10, dtype=int))
    confusion = np.diag(450 // 10 - wrong.sum(axis=1)) + wrong
    names = ["conv_in", "dw_1", "pw_1", "dw_2", "pw_2", "dw_3", "pw_3", "pool", "flatten", "dense", "softmax"]
    bytes_of = [784, 6272, 6272, 3136, 1568, 1568, 1568, 784, 64, 64, 10, 10]
    weighted = {"conv_in": 72, "dw_1": 72, "pw_1": 128, "dw_2": 144, "pw_2": 512, "dw_3": 288, "pw_3": 2048, "dense": 640}
    memory, layers = [], []
    for index, name in enumerate(names):
        tensors = {f"tensor_{which}": bytes_of[which] for which in (index, index + 1)}
        if 3 <= index <= 6:
            tensors["tensor_3"] = bytes_of[3]  # a shortcut that is alive until the sum
        memory.append({"op": name, "total": sum(tensors.values()), "tensors": tensors})
        kind = {"dw": "depthwise_conv2d", "de": "fully_connected", "co": "conv2d", "pw": "conv2d"}.get(name[:2], name)
        layers.append(
            {
                "name": name, "kind": kind, "input_shape": (28, 28, 1) if index == 0 else (14, 14, 8), "output_shape": (14, 14, 8),
                "macs": weighted.get(name, 0) * 196, "weight_bits": 0 if name not in weighted else 4 if name == "pw_3" else 8,
                "activation_bits": 8, "weight_bytes": weighted.get(name, 0), "bias_bytes": 32 if name in weighted else 0,
                "live_bytes": sum(tensors.values()),
            }
        )  # fmt: skip
    curves = {
        "train": [
            {"epoch": e, "loss": 2.3 * 0.8**e, "accuracy": 1 - 0.9 * 0.8**e, "val_loss": 2 * 0.82**e + 0.1, "val_accuracy": 1 - 0.8**e}
            for e in range(1, 21)
        ],
        "quantize": [{"epoch": e, "loss": 0.06 - 0.002 * e, "accuracy": 0.98 + 0.001 * e} for e in range(1, 9)],
    }  # fmt: skip
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16], image[4:8, 8:20] = 230, 160
    colour = np.stack([image, image.T, 255 - image], axis=-1)
    ledger = [
        {"step": "train", "accuracy": 0.9822, "tflite_bytes": 14_012, "ram_bytes": 12_544, "macs": 801_200, "seconds": 41.2},
        {"step": "quantize", "accuracy": 0.98, "tflite_bytes": 12_345, "ram_bytes": 12_544, "macs": 764_400, "seconds": 2338.7},
    ]
    return ReportData(
        title="digits",
        command="python -m tinykit.train --config digits --workdir runs/digits --set budget.board=nano33ble",
        config_yaml="task: digits\nseed: 0\ndata:\n  name: digits\nmodel:\n  name: ds_cnn\nrecipe: int8\nbudget:\n  board: nano33ble\n",
        env={"versions": {"tinykit": "0.1.0", "keras": "3.15.1", "tflite-micro": None}, "platform": "Linux", "cpu_count": 2},
        metrics={
            "task": "digits",
            "data": {"source": "scikit-learn", "synthetic": False, "test_samples": 450},
            "accuracy": {"float": 0.9822, "integer": 0.98, "metric": "top1"},
            "macs": 764_400, "board": "nano33ble", "budget_met": True, "tflite_bytes": 12_345, "seconds": {"total": 83.4}, "seed": 0,
        },
        data={
            "name": "digits", "source": "scikit-learn's copy of the UCI handwritten digits", "synthetic": False,
            "sizes": {"train": 1078, "val": 269, "test": 450}, "sha256": "5f" * 32, "class_names": DIGITS,
        },
        ledger=[{**row, "verdict": "fits"} for row in ledger],
        budget={"board": "nano33ble", "flash": 983_040, "ram": 262_144},
        layers=layers,
        memory=memory,
        confusion=[[int(value) for value in row] for row in confusion],
        disagreements={"count": 3, "samples": 450},
        parity=[
            {"a": "Keras", "b": "reference executor", "mismatches": 0, "elements": 4500, "samples": 450, "scope": "outputs"},
            {"a": "TFLM", "b": "reference executor", "mismatches": 0, "elements": 1_204_330, "samples": 50, "scope": "every op"},
        ],
        curves=curves,
        ops=["AddConv2D", "AddDepthwiseConv2D", "AddMean", "AddReshape", "AddFullyConnected", "AddSoftmax"],
        arena={"host_bytes": 17_904, "estimate_bytes": 14_760, "note": "The persistent part is fitted to four models within 116 B."},
        simplifier={"macs_before": 801_200, "macs_after": 764_400, "channels_before": 152, "channels_after": 144},
        skipped=["dw_2: kept at 8 bits: it has only 144 weights"],
        notes=["What the Arduino target takes of RAM is not known and not subtracted."],
        examples=[
            {"image": image, "true": "7", "predicted": "1", "index": 17},
            {"image": image[:, ::-1].copy()[..., None], "true": "9", "predicted": "4", "index": 203},
            {"image": colour, "true": "2", "predicted": "8", "index": 311},
        ],
    )  # fmt: skip


def planned() -> ReportData:
    """A linked and emulated engine with its plan: three layers, scratch in the second, an arena above its lower bound."""
    data = full()
    data.plan = {
        "bytes": 1200, "lower_bound": 1056, "order": "heuristic", "source": "planned; input and output included",
        "peak": {"layer": "first", "bytes": 1200},
        "tensors": {"in": 0, "a": 32, "b": 0, "out": 1190},
        "layers": [
            {"layer": "first", "bytes": 1200, "least": 1036, "tensors": {"in": [0, 64], "a": [32, 1024]}, "scratch": None,
             "reversed": True},
            {"layer": "second", "bytes": 1184, "least": 1056, "tensors": {"a": [32, 1024], "b": [0, 512]}, "scratch": [1056, 128],
             "reversed": False},
            {"layer": "third", "bytes": 1200, "least": 522, "tensors": {"b": [0, 512], "out": [1190, 10]}, "scratch": None,
             "reversed": False},
        ],
        "hints": ["Step second needs the most memory."],
    }  # fmt: skip
    data.metrics |= {
        "flash": {"total": 19_654, "weights": 14_288, "code": 5_366},
        "ram": {"total": 1_582, "arena": 1_200, "static": 2, "stack": 380},
        "instructions": 3_057_600,
        "cycles": 4_402_945,
    }
    for index, layer in enumerate(data.layers):
        if layer["name"] != "flatten":
            macs, instructions = layer["macs"], 1_000 + 111 * index
            ratio = round(instructions / macs, 3) if macs else None
            layer |= {"kernel": "digits_k1", "instructions": instructions, "instructions_per_mac": ratio, "cycles": 2 * instructions}
    scope = "every tensor, emulated nano33ble"
    data.parity.append({"a": "engine", "b": "reference", "mismatches": 0, "elements": 9_000, "samples": 16, "scope": scope})
    return data
