"""Searched networks against the same backbone scaled in width, paired by seed, with one limit of multiply-accumulates and as much time.

Example:
    TINYKIT_DATA=folder taskset -c 0 python benchmarks/search.py             # every row that has no result yet, on one core
    TINYKIT_DATA=folder python benchmarks/search.py har_57k_search_0         # one row, again
    python benchmarks/search.py --table                                      # only write the table again

A row `NAME_search_SEED` is `python -m tinykit.search` with recipe int8. Row `NAME_width_SEED` tunes the backbone that the configuration
names as its model: random widths (one factor for all stages) and learning rates, trained as long as the search's result and calibrated
(recipe ptq: the least that a trial may cost beside), until all trials together have taken as long as the searcher took with everything; the
best on val counts. Results are appended to benchmarks/search.jsonl (the last of a row counts) and shown in benchmarks/search.md.
"""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import Result, Runs, read, refuse_unreal, table_line

FOLDER = Path("runs/search")
FACTORS = tuple(round(0.25 * 1.06**i, 3) for i in range(44))
"""Of all widths, 0.25 to 3.06."""
EQUAL = 0.9, 1.0
"""Shares of the searcher's multiply-accumulates that a scaled backbone takes, where accuracy is compared."""
MORE = 4 / 3, 2.0
"""The same where networks of a quarter fewer multiply-accumulates are asked to be no worse: with an ample budget, where all networks learn
what there is to learn."""
TRIALS = 200
ALPHA = 2.0
"""Standard errors that count as better."""
FEWER = 0.75
"""Share of the multiply-accumulates that counts as better at equal accuracy."""


@dataclass(frozen=True)
class Contest:
    """Attributes: name: of its rows; config: of the search; macs: the searcher's limit; shape, classes: of the data; seeds: how many
    pairs; minutes: that search and final training may take; rivals: shares of the limit that scaled backbones take, least and most."""

    name: str
    config: str
    macs: int
    shape: tuple[int, ...]
    classes: int
    seeds: int
    minutes: float
    rivals: tuple[float, float] = EQUAL
    searches: str = ""

    @property
    def settings(self) -> list[str]:
        """What both sides set."""
        return ["budget.flash=null", "budget.ram=null"]


WORDS, WAKE, HAR = ((49, 10, 1), 3), ((49, 10, 1), 5), ((128, 9), 6)
# Limits are a little above what a width of the backbone takes: widths are multiples of 4, and there are few.
CONTESTS = (
    Contest("words3_37k", "search_words3", 37_000, *WORDS, 5, 10),
    Contest("words3_84k", "search_words3", 84_000, *WORDS, 5, 10),
    Contest("words3_84k_more", "search_words3", 84_000, *WORDS, 5, 10, MORE, "words3_84k"),
    Contest("words3_102k", "search_words3", 102_000, *WORDS, 5, 10, MORE),
    Contest("wakewords5_37k", "search_wakewords5", 37_000, *WAKE, 5, 10),
    Contest("wakewords5_102k", "search_wakewords5", 102_000, *WAKE, 5, 10, MORE),
    Contest("har_42k", "search_har", 42_000, *HAR, 5, 10, MORE),
    Contest("har_57k", "search_har", 57_000, *HAR, 5, 10),
    Contest("har_57k_more", "search_har", 57_000, *HAR, 5, 10, MORE, "har_57k"),
    Contest("cifar10_3M", "search_cifar10", 3_000_000, (32, 32, 3), 10, 2, 40),
)


def rows() -> dict[str, tuple[Contest, str, int]]:
    """Row -> contest, side, seed; a seed's search before its baseline, which needs its time."""
    sides = {c.name: ("width",) if c.searches else ("search", "width") for c in CONTESTS}
    return {f"{c.name}_{side}_{seed}": (c, side, seed) for c in CONTESTS for seed in range(c.seeds) for side in sides[c.name]}


ROWS = rows()


def pair(contest: Contest, seed: int) -> tuple[str, str]:
    """Rows of a seed: the search, the widths."""
    return f"{contest.searches or contest.name}_search_{seed}", f"{contest.name}_width_{seed}"


def backbone(contest: Contest) -> list[dict[str, Any]]:
    """The stages that the configuration trains where nobody searches."""
    from tinykit.config.loading import load_config

    options = load_config(contest.config).config.model.options
    stages: list[dict[str, Any]] = options["stages"]
    return stages


def scaled(stages: list[dict[str, Any]], factor: float) -> list[dict[str, Any]]:
    """All widths times the factor, to multiples of 4."""

    def width(value: int) -> int:
        return max(4, 4 * round(value * factor / 4))

    return [{**stage, **{key: width(stage[key]) for key in ("filters", "expanded") if stage.get(key)}} for stage in stages]


def widths(contest: Contest) -> list[list[dict[str, Any]]]:
    """The scaled backbones that take as much as they may, none twice."""
    from tinykit.models.macs import count_macs
    from tinykit.models.registry import build_model

    least, most = (share * contest.macs for share in contest.rivals)
    found: dict[str, list[dict[str, Any]]] = {}
    for factor in FACTORS:
        stages = scaled(backbone(contest), factor)
        macs = count_macs(build_model("staged", contest.shape, contest.classes, {"stages": stages}))
        if least <= macs <= most:
            found[json.dumps(stages)] = stages
    if not found:
        raise SystemExit(f"{contest.name}: no width of the backbone takes between {least:,.0f} and {most:,.0f} multiply-accumulates")
    return list(found.values())


def arguments(row: str) -> list[str]:
    """Of `python -m tinykit.search`, without --workdir."""
    contest, side, seed = ROWS[row]
    sets = [*contest.settings, "recipe=int8", f"search.macs={contest.macs}"]
    if side == "width":
        parameters = {
            "model.options.stages": {"values": widths(contest)},
            "steps.train.learning_rate": {"least": 0.0005, "most": 0.02, "scale": "log"},
        }
        tune = {"method": "random", "trials": TRIALS, "seconds": seconds_of(row), "parameters": parameters}
        sets = [*contest.settings, "recipe=ptq", "search=null", f"tune={json.dumps(tune)}"]
    return ["--config", contest.config, *(word for s in sets for word in ("--set", s)), "--seed", str(seed)]


def seconds_of(row: str) -> float:
    """What the search of the same seed took with everything, of one kind of machine."""
    contest, _, seed = ROWS[row]
    search = pair(contest, seed)[0]
    found = {r["row"]: r for r in read(Path(__file__).with_name("search.jsonl"))}
    if search not in found:
        raise SystemExit(f"{row}: the search {search} comes first: its time is this row's")
    taken: float = found[search]["seconds"]
    return taken


def kept(row: str, folder: Path, metrics: Result) -> Result:
    """What the table keeps. Raises SystemExit where the run is no result."""
    refuse_unreal(row, metrics)
    result = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    keys = ("accuracy", "macs", "parity", "flash", "ram", "seed")
    winner = result["winner"]
    found = winner.get("architecture") or winner["values"]
    more = {key: result.get(key) for key in ("counted", "predicted", "real")}
    return {key: metrics[key] for key in keys} | {"trials": result["trials"]["all"], "found": found, **more}


def _score(result: Result) -> float:
    """Float top-1 on the test split, in percent."""
    score: float = result["accuracy"]["float"]
    return 100 * score


def summary(contest: Contest, found: dict[str, Result]) -> str:
    """One line of the table."""
    pairs = []
    for seed in range(contest.seeds):
        both = [found.get(row) for row in pair(contest, seed)]
        if all(both):
            pairs.append(both)
    if not pairs:
        return f"| {contest.name} | {_rivals(contest)} | not measured | | | | | | | |"
    ours, theirs = ([_score(both[i]) for both in pairs] for i in (0, 1))
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    gap = statistics.fmean(gaps)
    macs = [statistics.fmean(both[i]["macs"] for both in pairs) for i in (0, 1)]
    better = gap > ALPHA * error or (gap >= 0 and macs[0] <= FEWER * macs[1])
    longest = max(both[0]["seconds"] for both in pairs) / 60
    cells = [contest.name, _rivals(contest), str(len(pairs)), _spread(ours), _spread(theirs), f"{gap:+.2f}", f"{error:.2f}"]
    cells += [f"{macs[0]:,.0f} / {macs[1]:,.0f}", f"{longest:.1f} of {contest.minutes:g}", "yes" if better else "NO"]
    return f"| {' | '.join(cells)} |"


def _rivals(contest: Contest) -> str:
    """What the other side may take: as much, or more."""
    return "4/3 of it and more" if contest.rivals == MORE else "as much"


def _spread(scores: list[float]) -> str:
    return f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f})"


def table(found: dict[str, Result]) -> str:
    """The results as Markdown."""
    heading = (
        "limit",
        "widths",
        "pairs",
        "searched, top-1 %",
        "widths, top-1 %",
        "gap",
        "standard error",
        "MACs",
        "minutes, longest",
        "better",
    )
    lines = [
        "# Searched networks against scaled ones",
        "",
        "`taskset -c 0 python benchmarks/search.py`, one core a row, pairs of one seed. Searched: `tinykit.search`, everything included.",
        "Widths: the backbone that the configuration names, all widths times one factor; widths and learning rates are drawn at random and",
        "each is trained in full until the trials together have taken as long as the search; the best on val. Float accuracy on the test",
        f"split, which neither has seen. Better: by more than {ALPHA:g} standard errors of the paired gaps, or no worse with at most "
        f"{FEWER:.0%} of the",
        "multiply-accumulates. Widths take 90 % of the limit to all of it; where the table says 4/3, 4/3 of it to twice: with an ample",
        "budget all networks learn what there is to learn, and the question is whether a quarter fewer multiply-accumulates do as well.",
        "Settings of the searched side (rate, epochs of a trial, start from its weights) were chosen with val and test figures of seeds 0",
        "and 1 of words3 and har in sight; limits and the least width, after the first results. Part of the rows ran beside other work.",
        "Rows that end in `_more` share the searches of the contest before; some of these were timed on a slower machine than the widths,",
        "which gave the widths more trials.",
        "",
        f"| {' | '.join(heading)} |",
        "|---" * len(heading) + "|",
        *(summary(contest, found) for contest in CONTESTS),
        "",
        "## Every run",
        "",
        "| row | float | integer | MACs | trials | parity | seconds | CPU s | date |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_detail(row, found[row]) for row in ROWS if row in found),
    ]
    return "\n".join(lines) + "\n"


def _detail(row: str, r: Result) -> str:
    integer = r["accuracy"]["integer"]
    cells = [row, f"{_score(r):.2f}", None if integer is None else f"{100 * integer:.2f}", r["macs"], r["trials"]]
    cells += [r["parity"]["engine_vs_reference"], f"{r['seconds']:.0f}", r.get("cpu_seconds"), r["date"]]
    return table_line(cells, [])[: -len(" `` |")]


RUNS = Runs("search", FOLDER, dict.fromkeys(ROWS, ()), kept, table, module="tinykit.search", metrics="run/metrics.json", words=arguments)


if __name__ == "__main__":
    RUNS.main()
