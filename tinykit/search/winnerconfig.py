"""The configuration of a winner's run: an ordinary one, with the architecture in the place of the model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from tinykit.config.loading import ResolvedConfig
from tinykit.errors import ConfigError
from tinykit.search.predict import with_dropout
from tinykit.search.trials import Trial


def winner_config(config: ResolvedConfig, winner: Trial, start: Path | None) -> dict[str, Any]:
    """The configuration of the winner's run: the search's, with the architecture in the place of its model.

    Args:
        start: a model file to begin with; None: from scratch.
    """
    options = config.config.search
    if options is None:
        raise ConfigError("the configuration has no section `search`")
    data = copy.deepcopy(config.to_dict())
    del data["search"]
    data["model"] = {"name": "staged", "options": with_dropout(winner.architecture, options.dropout)}
    if start is not None:
        data["model"] = {"path": str(start.absolute())}
    for step in data["recipe"]:
        for name, settings in step.items():
            if options.weight_bits < 8 and "bits" in settings:
                settings["bits"] = {"*": options.weight_bits}
            if start is not None and name == "train":
                settings["when"] = "always"
    return data
