"""Command lines and configurations that are wrong. All of them are found before TensorFlow is imported."""

from collections.abc import Sequence
from pathlib import Path

from badinput_kind import kind

LINE, CONFIGURATION = "command line", "configuration"
GOOD = "data: {name: digits}\nmodel: {name: cnn}\nrecipe: float\n"
CONFIG = ("--config=c.yaml", "--workdir=w")


def wrote(folder: Path, text: str | bytes, name: str = "c.yaml") -> Sequence[str]:
    """The arguments that run the configuration `text`."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return CONFIG


def line(name: str, arguments: Sequence[str], *says: str, text: str = GOOD, **options) -> None:
    """A wrong command line beside a good configuration."""

    def make(folder: Path) -> Sequence[str]:
        wrote(folder, text)
        return arguments

    kind(LINE, name, *says, **options)(make)


def text(name: str, content: str | bytes, *says: str, **options) -> None:
    """A wrong configuration."""
    kind(CONFIGURATION, name, *says, **options)(lambda folder: wrote(folder, content))


# ---- the command line

line("--compare with an unknown recipe", [*CONFIG, "--compare=float,flaot"], "--compare: recipe: no recipe 'flaot'", "'float'?")
line("--compare without a name", [*CONFIG, "--compare="], "--compare: expected names of recipes", "such as int8,ptq")
line("--compare with a recipe twice", [*CONFIG, "--compare=float,float"], "--compare: 'float' is given twice", "folder of its name")
line(
    "--compare beside --set recipe",
    [*CONFIG, "--compare=float", "--set=recipe=int8"],
    "--set recipe: --compare names the recipes",
    "leave one",
)
line("--compare with a folder as a name", [*CONFIG, "--compare=.."], "--compare: '..': expected a name of letters", "its folder")
line(
    "--set for a step of no recipe of --compare",
    [*CONFIG, "--compare=float", "--set=steps.ptq.bits=4"],
    "--set steps.ptq",
    "no recipe of --compare has",
)
line("no --config", [], "--config is missing", "shipped configurations: ", "digits", alone=True)
line("a misspelt flag", ["--confg=c.yaml"], "unknown flag --confg", "did you mean --config?", "--help lists the flags")
line("a flag without its value", ["--config"], "--config", "--help lists the flags")
line("a configuration without --config=", ["c.yaml"], "unexpected argument 'c.yaml'", "did you mean --config=c.yaml?")
line("two unexpected arguments", [*CONFIG, "a", "b"], "unexpected argument 'a'", "unexpected argument 'b'", problems=2)
line("--seed below 0", [*CONFIG, "--seed=-1"], "--seed=-1", "-1 is not a non-negative integer")
line("--seed of more than 31 bits", [*CONFIG, f"--seed={2**31}"], "--seed", "less than or equal to 2147483647", str(2**31))
line("--seed that is no number", [*CONFIG, "--seed=first"], "--seed=first", "expected a whole number")
line("a switch with a value", [*CONFIG, "--quicktest=perhaps"], "--quicktest=perhaps", "expected true or false")
line("--flagfile that is not there", ["--flagfile=none.flags"], "none.flags", "--help lists the flags")
line("--config that is not there", ["--config=digitz"], "no config 'digitz'", "did you mean 'digits'?", "looked in")
line("--config that is a folder", ["--config=."], "error: .: a folder", "expected a file of YAML text")
line("--config with a name no file can have", ["--config=" + "x" * 5000], "no config 'xxx", "looked in")
line("--config with a newline in its name", ["--config=a\nb"], "no config 'a\\nb'", "looked in")
line("--set without =", [*CONFIG, "--set=seed"], "--set seed", "expected KEY=VALUE", "--set steps.train.epochs=5")
line("--set with an empty part", [*CONFIG, "--set=data..name=x"], "--set data..name=x", "expected KEY=VALUE")
line("--set of an unknown key", [*CONFIG, "--set=data.nmae=x"], "--set data.nmae", "unknown key 'nmae'", "did you mean 'name'?")
line("--set through a value that has no parts", [*CONFIG, "--set=data.name.x=1"], "--set data.name.x", "'digits'", "no part 'x'")
line("--set of another type", [*CONFIG, "--set=data.batch_size=many"], "--set data.batch_size", "valid integer", "'many'")
line("--set of what is no YAML", [*CONFIG, "--set=data.augment=[1"], "--set data.augment", "not valid YAML")
line(
    "--set of an index beyond the list",
    [*CONFIG, "--set=recipe.4.train.epochs=1"],
    "--set recipe.4.train",
    "from 0 to 0",
    "'4'",
    text="data: {name: digits}\nmodel: {name: cnn}\nrecipe: [train]\n",
)
line("--set with a newline", [*CONFIG, "--set=data.nmae\n=1"], "unknown key 'nmae'", "did you mean 'name'?")
line("an argument that is no UTF-8", [*CONFIG, "--set=data.name=\udcff"], "--set data.name", "the character #xdcff is not allowed")

for program in ("compile", "bench", "profile"):
    line(
        f"{program} without --model",
        ["--out=o"] if program != "profile" else [],
        "--model is missing",
        "expected --model=FILE.tflite",
        program=program,
        alone=program == "profile",
    )
line(
    "compile with a model but no --model=",
    ["m.tflite", "--out=o"],
    "'m.tflite'",
    "did you mean --model=m.tflite?",
    program="compile",
    problems=2,
)
line("--samples=0", ["--model=m.tflite", "--out=o", "--samples=0"], "--samples=0", "[1, 100000]", program="compile")
line("--toolchain of another name", ["--model=m", "--out=o", "--toolchain=clang"], "--toolchain=clang", "gcc|zig", program="compile")


# ---- the configuration's text


@kind(CONFIGURATION, "--config of a folder with the suffix .yaml", "c.yaml: a folder", "expected a file of YAML text")
def _folder(folder: Path) -> Sequence[str]:
    (folder / "c.yaml").mkdir()
    return CONFIG


@kind(CONFIGURATION, "a file that never ends", "c.yaml: no plain file", "expected a file of YAML text")
def _endless(folder: Path) -> Sequence[str]:
    (folder / "c.yaml").symlink_to("/dev/zero")
    return CONFIG


text("empty file", "", "c.yaml", "data is missing", "model: give exactly one of name and path", problems=2)
text("a list at the top", "- data\n- model\n", "c.yaml", "expected keys and values", "got list")
text("no text at all: binary", bytes(range(256)) * 4, "c.yaml:", "cannot be read")
text("a NUL among the text", GOOD.replace("digits", "dig\0its"), "c.yaml:1", "not valid YAML", "#x0000")
text("invalid UTF-8", b"# caf\xe9\n" + GOOD.encode(), "c.yaml:1:", "save the file as UTF-8")
text("UTF-16", GOOD.encode("utf-16"), "c.yaml:1:", "save the file as UTF-8")
text("a tab as indentation", "data:\n\tname: digits\nmodel: {name: cnn}\n", "c.yaml:2", "not valid YAML", "\\t")
text("a bracket that is never closed", "data: {name: digits\nmodel: [\n", "c.yaml:", "not valid YAML")
text("two documents", GOOD + "---\n" + GOOD, "c.yaml:", "single document")
text("a key twice", GOOD + "seed: 1\nseed: 2\n", "c.yaml:5", "key 'seed' was already given in line 4")
text("a key that is no text", GOOD + "1: 2\n", "c.yaml:4", "a key must be plain text", "'1'")
text("a merge key", "a: &a {name: digits}\ndata: {<<: *a}\nmodel: {name: cnn}\n", "c.yaml:2", "merge keys (<<) are not supported")
text(
    "a tag that would run code",
    "data: !!python/object/apply:os.system ['touch owned']\nmodel: {name: cnn}\n",
    "c.yaml:1",
    "python/object/apply:os.system",
    "only plain data",
)
text(
    "a YAML bomb",
    "".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(12)]),
    "c.yaml:",
    "more than 20000 values",
    "after aliases are expanded",
)
text("an alias of itself", "data: &d {name: digits, options: *d}\nmodel: {name: cnn}\n", "c.yaml:", "after aliases are expanded")
text("nested too deeply", f"data: {'[' * 500}{']' * 500}\n", "c.yaml:1", "nested deeper than 32 levels")
text("larger than a megabyte", GOOD + "# " + "x" * 1_100_000, "c.yaml", "larger than 1000000 bytes")
text("a whole number of 5000 digits", GOOD + f"seed: {'9' * 5000}\n", "c.yaml:4", "more than 100 digits")

# ---- the configuration's content

text("an unknown key", GOOD + "sed: 3\n", "c.yaml:4", "unknown key 'sed'", "did you mean 'seed'?")
text("a key in another section's place", GOOD + "batch_size: 8\n", "c.yaml:4", "did you mean 'data.batch_size'?")
text("a value of another type", GOOD + "simplify: sometimes\n", "c.yaml:4", "simplify", "valid boolean", "'sometimes'")
text("a section that is no mapping", GOOD + "budget: small\n", "c.yaml:4", "budget", "valid mapping", "'small'")
text("no data", "model: {name: cnn}\n", "c.yaml", "data is missing")
text("neither a model's name nor a path", "data: {name: digits}\n", "c.yaml", "model: give exactly one of name and path, got neither")
text("both a model's name and a path", GOOD.replace("name: cnn", "name: cnn, path: c.yaml"), "c.yaml:2", "got both")
text("model.path that is not there", GOOD.replace("name: cnn", "path: none.keras"), "c.yaml:2", "model.path: no such file 'none.keras'")
text("an unknown dataset", GOOD.replace("digits", "digts"), "c.yaml:1", "unknown dataset 'digts'", "did you mean 'digits'?")
text("an unknown model", GOOD.replace("cnn", "cnnn"), "c.yaml:2", "unknown model 'cnnn'", "did you mean 'cnn'?")
text("an unknown board", GOOD + "budget: {board: nano33bel}\n", "c.yaml:4", "unknown board 'nano33bel'", "did you mean 'nano33ble'?")
text("an unknown recipe", GOOD.replace("recipe: float", "recipe: flaot"), "c.yaml:3", "no recipe 'flaot'", "did you mean 'float'?")
text("an unknown step", GOOD.replace("recipe: float", "recipe: [trian]"), "c.yaml:3", "unknown step 'trian'", "did you mean 'train'?")
text("an unknown option of a step", GOOD + "steps: {train: {epoks: 1}}\n", "c.yaml:4", "'epoks' in train", "did you mean 'epochs'?")
text("options of a step that the recipe has not", GOOD + "steps: {ptq: {}}\n", "c.yaml:4", "the recipe has no step 'ptq'")
text(
    "a step behind one that it cannot follow",
    GOOD.replace("recipe: float", "recipe: [quantize, ptq]"),
    "c.yaml:3",
    "step 'ptq' needs a float model",
)
text("a recipe without steps", GOOD.replace("recipe: float", "recipe: []"), "c.yaml:3", "a list of 1 to 32 steps")
text("negative epochs", GOOD + "steps: {train: {epochs: -3}}\n", "c.yaml:4", "train.epochs", "greater than or equal to", "-3")
text("a learning rate that is NaN", GOOD + "steps: {train: {learning_rate: .nan}}\n", "c.yaml:4", "train.learning_rate", "nan")
text("a learning rate that is infinite", GOOD + "steps: {train: {learning_rate: 1e999}}\n", "c.yaml:4", "train.learning_rate", "inf")
text("epochs as an infinite number", GOOD + "steps: {train: {epochs: .inf}}\n", "c.yaml:4", "train.epochs", "valid integer", "inf")
text("a seed beyond 31 bits", GOOD + f"seed: {2**40}\n", "c.yaml:4", "seed", "less than or equal to 2147483647")
text("check.samples of 0", GOOD + "check: {samples: 0}\n", "c.yaml:4", "check.samples", "greater than or equal to 1", "0")
text("a negative budget", GOOD + "budget: {flash: -1}\n", "c.yaml:4", "budget.flash", "256kB", "got -1")
text("a budget in unknown units", GOOD + "budget: {ram: 12 parsecs}\n", "c.yaml:4", "budget.ram", "256kB", "'12 parsecs'")
text(
    "an unknown operation of the preprocessing",
    GOOD.replace("digits}", "digits, preprocess: [{scael: {by: 2}}]}"),
    "c.yaml:1",
    "data.preprocess[0]",
    "unknown op 'scael'",
    "did you mean 'scale'?",
)
text(
    "a wrong option of the preprocessing",
    GOOD.replace("digits}", "digits, preprocess: [{scale: {by: zero}}]}"),
    "c.yaml:1",
    "data.preprocess[0] scale",
    "'by'",
    "'zero'",
)
text("an unknown augmentation", GOOD.replace("digits}", "digits, augment: [flip]}"), "c.yaml:1", "data.augment[0]", "flip_lr")


@kind(CONFIGURATION, "a recipe that is no recipe but a configuration", "c.yaml:", "unknown key", "steps is missing", problems=4)
def _recipe_of_itself(folder: Path) -> Sequence[str]:
    return wrote(folder, GOOD.replace("recipe: float", "recipe: c.yaml"))


@kind(CONFIGURATION, "a recipe file with a wrong step", "recipes/mine.yaml:3", "unknown key 'epoks'", "did you mean 'epochs'?")
def _recipe_file(folder: Path) -> Sequence[str]:
    (folder / "recipes").mkdir()
    wrote(folder, "steps:\n  - train:\n      epoks: 3\n", "recipes/mine.yaml")
    return wrote(folder, GOOD.replace("recipe: float", "recipe: mine"))


@kind(CONFIGURATION, "a recipe that names another recipe", "recipes/mine.yaml:2", "unknown step 'mine'")
def _recipe_cycle(folder: Path) -> Sequence[str]:
    (folder / "recipes").mkdir()
    wrote(folder, "steps:\n  - mine\n", "recipes/mine.yaml")
    return wrote(folder, GOOD.replace("recipe: float", "recipe: mine"))


@kind(CONFIGURATION, "six problems at once", "c.yaml:1", "c.yaml:2", "c.yaml:3", "c.yaml:4", "c.yaml:5", "c.yaml:6", problems=6)
def _six(folder: Path) -> Sequence[str]:
    return wrote(
        folder,
        "data: {name: digts}\nmodel: {name: cnnn}\nrecipe: flaot\nsed: 1\nsimplify: 3\nbudget: {flash: much}\n",
    )
