"""What the runner takes from the rest of the package."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinykit.boards.table import Budget
from tinykit.errors import ModelError
from tinykit.recipe import ledger
from tinykit.recipe.registry import step_class
from tinykit.recipe.rundir import RunDir
from tinykit.recipe.step import MetricsLog, StepContext

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tinykit.data import Chain, Dataset
    from tinykit.recipe.outputs import Outputs
    from tinykit.recipe.step import Step


class Services:
    """What the runner takes from the rest of the package. A test overrides methods; nothing is imported before its use."""

    def check_tools(self) -> None:
        """See tinykit.recipe.tools.check_tools."""
        from tinykit.recipe.tools import check_tools

        check_tools()

    def prepare(self) -> None:
        """Once, when the data are known and before any model is made: operations give the same result in every run."""
        from tinykit.recipe.quiet import import_tensorflow

        import_tensorflow()
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()

    def forget(self) -> None:
        """Before another run of this process: names of layers are counted from the beginning, as in a process of its own."""
        if "keras" in sys.modules:
            sys.modules["keras"].utils.clear_session()

    def seed(self, seed: int) -> None:
        """Seeds Python, NumPy and Keras."""
        import keras

        keras.utils.set_random_seed(seed)

    def metrics_log(self, folder: Path) -> MetricsLog:
        """metrics.jsonl and TensorBoard."""
        return MetricsLog(folder / "metrics.jsonl", folder / "tensorboard")

    def load_dataset(self, name: str, options: dict[str, Any], *, seed: int, quicktest: bool) -> "Dataset":
        """See tinykit.data.registry.load_dataset."""
        from tinykit.data.registry import load_dataset

        return load_dataset(name, options, seed=seed, quicktest=quicktest)

    def parse_chain(self, operations: Sequence[Any]) -> "Chain":
        """See tinykit.data.preprocess.Chain.parse."""
        from tinykit.data.preprocess import Chain

        return Chain.parse(operations, "data.preprocess")

    def check_samples(self, dataset: "Dataset", chain: "Chain", augment: Sequence[Any], rebuilt: bool) -> None:
        """See tinykit.data.pipeline.check_samples."""
        from tinykit.data.pipeline import check_samples

        check_samples(dataset, chain, augment, rebuilt)

    def build_model(self, name: str, input_shape: Sequence[int], classes: int, options: dict[str, Any]) -> "keras.Model":
        """See tinykit.models.registry.build_model."""
        from tinykit.models.registry import build_model

        return build_model(name, tuple(input_shape), classes, options)

    def load_model(self, path: str) -> "keras.Model":
        """A user's file; see tinykit.models.load_model."""
        from tinykit.models import load_model

        return load_model(path)

    def check_input(self, model: "keras.Model", shape: Sequence[int]) -> None:
        """Whether a user's model takes the data; see tinykit.models.load.check_input."""
        from tinykit.models.load import check_input

        check_input(model, shape)

    def check_scores(self, model: "keras.Model", dataset: "Dataset", shape: Sequence[int], rebuilt: bool) -> list[str]:
        """Whether a user's model gives one score a class; see tinykit.recipe.imported.check_scores."""
        from tinykit.recipe.imported import check_scores

        return check_scores(model, dataset, shape, rebuilt)

    def check_values(self, model: "keras.Model", dataset: "Dataset", chain: "Chain") -> None:
        """Whether a user's model computes finite values; see tinykit.recipe.imported.check_values."""
        from tinykit.recipe.imported import check_values

        check_values(model, dataset, chain)

    def absorb(self, model: "keras.Model", dataset: "Dataset", chain: "Chain") -> "tuple[keras.Model, Chain, list[str]]":
        """A user's model without the preprocessing it begins with; see tinykit.recipe.imported.absorb."""
        from tinykit.recipe.imported import absorb

        return absorb(model, dataset, chain)

    def step_class(self, name: str) -> "type[Step]":
        """See tinykit.recipe.registry.step_class."""
        return step_class(name)

    def save_step_model(self, model: "keras.Model", path: Path) -> None:
        """Writes a `.keras` file. The same model gives the same bytes."""
        from tinykit.recipe.kerasfile import save_model

        save_model(model, path)

    def load_step_model(self, path: Path, step: "type[Step]") -> "keras.Model":
        """Reads what `save_step_model` wrote after `step`."""
        import importlib

        import keras

        for module in getattr(step, "saved_with", ()):
            importlib.import_module(module)
        try:
            return keras.saving.load_model(path, compile=False)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{path}: cannot be loaded: {error}; delete its folder to run the step again") from error

    def score(self, model: "keras.Model", dataset: "Dataset", chain: "Chain") -> float | None:
        """See tinykit.recipe.score.score."""
        from tinykit.recipe.score import score

        return score(model, dataset, chain)

    def footprint(self, model: "keras.Model", *, simplified: bool) -> ledger.Footprint:
        """See tinykit.recipe.outputs.footprint."""
        from tinykit.recipe.outputs import footprint

        return footprint(model, simplified)

    def weights(self, model: "keras.Model") -> "dict[str, np.ndarray]":
        """See tinykit.shrink.kernels.weight_columns."""
        from tinykit.shrink.kernels import weight_columns

        return weight_columns(model)

    def finish(
        self, model: "keras.Model", context: StepContext, rundir: RunDir, *, rows: Sequence[ledger.Row], budget: Budget
    ) -> "Outputs":
        """See tinykit.recipe.outputs.finish: writes and checks the outputs; its `metrics` are laid over metrics.json."""
        from tinykit.recipe.outputs import finish

        return finish(model, context, rundir, rows=rows, budget=budget)

    def report(
        self, outputs: "Outputs", rundir: RunDir, metrics: dict[str, Any], rows: Sequence[ledger.Row], budget: Budget, board: str | None
    ) -> None:
        """See tinykit.recipe.outputs.report: writes report.html."""
        from tinykit.recipe.outputs import report

        report(outputs, rundir, metrics, rows, budget, board)
