"""The schema of a configuration: every key, its default and its bounds. The only place where defaults live."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from tinykit.config.search import SearchConfig
from tinykit.config.section import Section
from tinykit.config.sizes import parse_size
from tinykit.config.tune import TuneConfig

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[A-Za-z]*$"}],
            "description": "bytes: 262144, '256kB', '1MB' (kB and KB are 1000 bytes, KiB is 1024)",
        }
    ),
]
"""Bytes. kB and KB are 1000 bytes, MB is 1000000; KiB and MiB are 1024 and 1048576."""

Options = dict[str, Any]


class DataConfig(Section):
    """Which data, and what is done to it before the network sees it."""

    name: str = Field(description="a dataset of tinykit.data.registry")
    options: Options = Field(default_factory=dict, description="options of that dataset")
    preprocess: list[Any] = Field(
        default_factory=list, max_length=64, description="chain of operations, in order: [{scale: {by: 0.0039215686}}]"
    )
    augment: list[Any] = Field(
        default_factory=list, max_length=64, description="random changes of the training split: [flip_lr, {shift: {pixels: 3}}]"
    )
    batch_size: int = Field(default=32, ge=1, le=65536, description="samples a batch")


class ModelConfig(Section):
    """Which network: a family by name, or a file of yours."""

    name: str | None = Field(default=None, description="a model of tinykit.models.registry")
    path: str | None = Field(default=None, description="a Keras file to start from, instead of a name")
    options: Options = Field(default_factory=dict, description="options of the named model")


class BudgetConfig(Section):
    """What the result must fit. An explicit size wins over the board's default (capacity minus reserve)."""

    board: str | None = Field(default=None, description="a board of tinykit.boards.table")
    flash: Size | None = Field(default=None, description="flash in bytes")
    ram: Size | None = Field(default=None, description="RAM in bytes")
    instructions: int | None = Field(
        default=None, ge=1, le=10**12, description="instructions that an inference executes on the emulated board; kept by bits: optimum"
    )


class EngineConfig(Section):
    """What the generated C is made best for."""

    optimize: Literal["speed", "balanced", "size"] = Field(
        default="balanced",
        description="speed: quick kernels wherever the board's RAM has room; balanced: for at most 1 kB of RAM more; size: the least flash",
    )
    autotune: bool = Field(
        default=False,
        description="count every variant of every kernel on the emulated board instead of estimating it, before the last build",
    )
    storage: Literal["dense", "auto", "bitmap", "lut", "bitmap+lut", "huffman", "bitmap+huffman", "ans"] = Field(
        default="auto",
        description="how weights lie in flash: dense: as kernels read them; auto: a layer's smallest coding where it pays; or one coding",
    )
    storage_limit: float = Field(
        default=0.25, ge=0, le=1000, description="instructions of decoding a layer, as a share of its own, beyond which it stays dense"
    )


class CheckConfig(Section):
    """How much of the result is checked."""

    samples: int | None = Field(default=None, ge=1, le=10**9, description="test samples compared bit for bit; null: the whole test split")
    litert: bool = Field(default=False, description="compare with LiteRT as well (it needs not agree)")


class TfliteConfig(Section):
    """How model.tflite is written."""

    keep_names: bool = Field(
        default=False, description="keep tensor names and full zero-point vectors, which TFLM does not need and LiteRT does; a larger file"
    )


class RunConfig(Section):
    """One run, from data to an integer network."""

    task: str | None = Field(default=None, description="name in metrics.json; default: the configuration's name")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="seed of everything random")
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    recipe: Any = Field(
        default="int8",
        description="a recipe's name, or a list of steps, each a name or {name: {option: value}}",
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 32,
                    "items": {
                        "anyOf": [
                            {"type": "string"},
                            {
                                "type": "object",
                                "minProperties": 1,
                                "maxProperties": 1,
                                "additionalProperties": {"type": ["object", "null"]},
                            },
                        ]
                    },
                },
            ]
        },
    )
    steps: dict[str, Options | None] = Field(
        default_factory=dict, description="options that replace the recipe's, by step name: {train: {epochs: 5}}"
    )
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    check: CheckConfig = Field(default_factory=CheckConfig)
    tflite: TfliteConfig = Field(default_factory=TfliteConfig)
    simplify: bool = Field(default=True, description="remove dead channels and no-ops from the integer graph (exact)")
    search: SearchConfig | None = Field(default=None, description="a space of architectures, for tinykit.search; nothing else looks at it")
    tune: TuneConfig | None = Field(default=None, description="values of this configuration to be searched, for tinykit.search")


class RecipeConfig(Section):
    """A recipe file: an ordered list of steps, reusable across configurations."""

    steps: list[Any] = Field(min_length=1, max_length=32)


def json_schema(step_options: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """The JSON Schema of a configuration file, for editors.

    Args:
        step_options: options model of each step, by name; they become the properties of `steps`.
    """
    schema = RunConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "tinykit configuration"
    if step_options:
        definitions = schema.setdefault("$defs", {})
        properties = {}
        for name, model in step_options.items():
            own = model.model_json_schema(ref_template="#/$defs/{model}")
            for key, value in own.pop("$defs", {}).items():
                definitions.setdefault(key, value)
            own.pop("required", None)
            properties[name] = own
        schema["properties"]["steps"]["properties"] = properties
    return schema
