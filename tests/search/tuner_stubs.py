"""A search whose trials are made up at once: figures follow from values, and nothing is trained."""

from pathlib import Path

from tinykit.config.tune import TuneConfig
from tinykit.recipe.interrupt import StopFlag
from tinykit.search.trials import Trial, Trials
from tinykit.search.tuner.desk import Desk
from tinykit.search.tuner.keras_tuners import proposer, trials_of
from tinykit.search.tuner.space import TuneSpace
from tinykit.search.tuner.worker import Tuner

PARAMETERS = {
    "steps.train.learning_rate": {"least": 1e-4, "most": 1e-1, "scale": "log"},
    "model.options.filters": {"values": [[8, 8], [16, 16, 16], [32, 32]]},
    "data.batch_size": {"least": 8, "most": 64, "step": 8},
}
METHODS = {
    "random": {"trials": 14},
    "bayesian": {"trials": 6},
    "hyperband": {},
    "nsga2": {"trials": 18, "population": 6, "objectives": ["accuracy", "flash", "cycles"]},
}
EPOCHS = 9


def section(method: str, **more) -> TuneConfig:
    return TuneConfig.model_validate({"method": method, "parameters": PARAMETERS, **METHODS[method], **more})


def row(task, method: str = "stub") -> Trial:
    """Best at a learning rate of 0.01 and a small batch; 64 samples a batch do not fit."""
    rate, batch = task.proposal.values["steps.train.learning_rate"], task.proposal.values["data.batch_size"]
    widths = sum(task.proposal.values["model.options.filters"])
    flash = 1000 * widths + batch
    common = {"architecture": {}, "counted": {}, "values": task.proposal.values, "number": task.number, "stage": task.proposal.stage}
    if batch == 64:
        return Trial(task.key, method, status="infeasible", violations=("flash",), excess=0.25, **common)
    accuracy = round(1 / (1 + abs(rate - 0.01) * 50) - batch / 1000 + widths / 1000, 6)
    reached = {"flash": flash, "ram": 10, "cycles": 100_000 - widths, "instructions": 1, "macs": widths}
    return Trial(task.key, method, status="trained", violations=(), accuracy=accuracy, reached=reached, **common)


class Study:
    """One search with stub trials in a folder; made anew, it goes on."""

    def __init__(self, folder: Path, tune: TuneConfig, seed: int = 0, attempt=row, **desk) -> None:
        self.space = TuneSpace(tune.parameters)
        made = proposer(tune, self.space, seed, EPOCHS)
        self.ledger = Trials(folder / "trials.jsonl")
        self.desk = Desk(made, self.space, self.ledger, trials_of(tune, made), folder, **desk)
        self.tuner = Tuner(self.desk, attempt, StopFlag(), folder)

    def run(self) -> list[Trial]:
        self.tuner.work()
        return self.ledger.rows
