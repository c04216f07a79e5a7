"""Steps, models and services that need no TensorFlow, so that the runner is tested in milliseconds."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tinykit.config.catalogue import Catalogue, Family
from tinykit.config.loading import ResolvedConfig, load_config
from tinykit.errors import ModelError, ParityError
from tinykit.recipe.ledger import Footprint
from tinykit.recipe.services import Services
from tinykit.recipe.step import MetricsLog, StepResult

CONFIG = """\
task: fake
data: {name: numbers}
model: {name: constant}
recipe:
  - train: {by: 0.25}
  - add: {by: 0.5}
budget: {flash: 10kB, ram: 5kB}
"""


class AddOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: float = Field(default=0.25)


class FakeModel:
    def __init__(self, value: float) -> None:
        self.value = value

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(self.value))


class Add:
    """Adds to the model's value, and writes its name into `calls.txt` of the working directory."""

    name = "add"
    Options = AddOptions
    saved_with = ()

    def run(self, model: Any, options: AddOptions, context: Any) -> StepResult:
        with Path("calls.txt").open("a") as stream:
            before = None if context.float_model is None else context.float_model.value
            stream.write(f"{context.label} seed={context.seed} float={before} quicktest={context.quicktest}\n")
        context.log(f"adds {options.by}")
        context.metrics(loss=0.5, bad=float("nan"))
        return StepResult(FakeModel(model.value + options.by), {"by": options.by})


class Train(Add):
    name = "train"


class Slow(Add):
    """Works for 20 seconds unless it is told to stop."""

    def run(self, model: Any, options: AddOptions, context: Any) -> StepResult:
        Path("slow.txt").write_text("started")
        for done in range(400):
            time.sleep(0.05)
            context.progress(done, 400)
        return StepResult(None)


class Dies(Add):
    """Kills the process the first time, as a power cut would."""

    def run(self, model: Any, options: AddOptions, context: Any) -> StepResult:
        if not Path("died.txt").exists():
            Path("died.txt").write_text("")
            (context.folder / ".tmp-1-model.keras").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(model, options, context)


class Picky(Add):
    """Cannot handle the model, and says so beforehand."""

    def check(self, model: Any) -> None:
        raise ModelError(["layer 'a' has no integer form", "layer 'b' has no integer form"])


STEPS = {"train": Train, "add": Add, "slow": Slow, "dies": Dies, "picky": Picky}
CATALOGUE = Catalogue(
    datasets=Family("dataset", lambda: ["numbers"], lambda name: None),
    models=Family("model", lambda: ["constant"], lambda name: None),
    steps=Family("step", lambda: list(STEPS), lambda name: STEPS[name].Options),
    boards=lambda: ["nano33ble"],
    chain=lambda operations: [],
    augment=lambda operations: [],
)


def config(*overrides: str, text: str = CONFIG) -> ResolvedConfig:
    """The fake configuration, written into the working directory."""
    Path("fake.yaml").write_text(text)
    return load_config("fake.yaml", overrides, catalogue=CATALOGUE)


class FakeServices(Services):
    """A model is one number; its accuracy is that number, its size ten times as many kB."""

    def __init__(self, finish: dict[str, Any] | None = None, parity: str | None = None, sha: str = "ab" * 32) -> None:
        self.finished = finish or {}
        self.parity = parity
        self.sha = sha

    def prepare(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def seed(self, seed: int) -> None:
        pass

    def metrics_log(self, folder: Path) -> MetricsLog:
        return MetricsLog(folder / "metrics.jsonl")

    def load_dataset(self, name: str, options: Any, *, seed: int, quicktest: bool) -> Any:
        split = SimpleNamespace(x=SimpleNamespace(shape=(4, 2)), y=[0, 1, 0, 1])
        return SimpleNamespace(
            name=name, source="made up", synthetic=True, class_names=("a", "b"), train=split, val=split, test=split,
            split_sha256=self.sha, content_sha256=self.sha,
        )  # fmt: skip

    def parse_chain(self, operations: Any) -> Any:
        return SimpleNamespace(output_shape=lambda shape: tuple(shape))

    def check_values(self, model: Any, dataset: Any, chain: Any) -> None:
        pass

    def check_samples(self, dataset: Any, chain: Any, augment: Any, rebuilt: bool) -> None:
        pass

    def build_model(self, name: str, input_shape: Any, classes: int, options: Any) -> Any:
        return FakeModel(0.125)

    def load_model(self, path: str) -> Any:
        return FakeModel(json.loads(Path(path).read_text()))

    def step_class(self, name: str) -> Any:
        return STEPS[name]

    def save_step_model(self, model: Any, path: Path) -> None:
        model.save(path)

    def load_step_model(self, path: Path, step: Any) -> Any:
        return FakeModel(json.loads(path.read_text()))

    def score(self, model: Any, dataset: Any, chain: Any) -> float:
        return model.value

    def footprint(self, model: Any, *, simplified: bool) -> Footprint:
        return Footprint(int(model.value * 10_000), 2_000, 1_250_000)

    def finish(self, model: Any, context: Any, rundir: Any, *, rows: Any, budget: Any) -> Any:
        with Path("calls.txt").open("a") as stream:
            stream.write(f"finish {model.value} float={context.float_model.value}\n")
        if self.parity:
            raise ParityError(self.parity)
        return SimpleNamespace(metrics=self.finished, report={}, problems=[])

    def report(self, outputs: Any, rundir: Any, metrics: Any, rows: Any, budget: Any, board: Any) -> None:
        (rundir.path / "report.html").write_text(f"{metrics['task']} {rundir.read('env.json')['versions']['tinykit']}")
