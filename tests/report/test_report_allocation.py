"""The report's section on bits."""

from report_samples import full

from tinykit.report.allocation import allocation_view
from tinykit.report.curves import BOTTOM, LEFT, RIGHT, TOP
from tinykit.report.report import render_report


def found() -> dict:
    row = {"name": "conv<1>", "weight_bits": 4, "weight_bytes_before": 1000, "weight_bytes": 500, "output_bits": 2}
    row |= {"output_bytes_before": 400, "output_bytes": 100}
    pool = {"name": "pool", "weight_bits": None, "weight_bytes_before": None, "weight_bytes": None, "output_bits": 8}
    pool |= {"output_bytes_before": 40, "output_bytes": 40}
    point = {"ram": 900, "fits": True, "picks": []}
    return {
        "layers": [row, pool],
        "tried": [
            point | {"weight_bytes": 1000, "flash": 9000, "harm": 0.0, "bits": [8], "fits": False},
            point | {"weight_bytes": 500, "flash": 8500, "harm": 0.02, "bits": [4], "picks": ["quality", "balanced"]},
            point | {"weight_bytes": 250, "flash": 8250, "harm": 1.5, "bits": [2], "picks": ["compact"]},
        ],
        "pick": "quality",
        "harm": "nats",
        "budget": {"flash": 8600, "ram": None},
    }


def test_what_is_shown():
    view = allocation_view(found())
    assert view["weights"] == "1,000 → 500 bytes (50 %)"
    assert view["outputs"] == "440 → 140 bytes (32 %)"
    assert view["rows"][1] == {"name": "pool", "weight_bits": "–", "weights": "–", "output_bits": "8", "output": "40 → 40"}
    assert [(row["name"], row["trained"]) for row in view["picks"]] == [("quality", True), ("balanced", False), ("compact", False)]
    dots = view["plot"]["dots"]
    assert [(dot.state, dot.label) for dot in dots] == [("over", ""), ("pick", "quality, balanced"), ("pick", "compact")]
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BOTTOM for dot in dots)
    assert dots[0].x > view["plot"]["budget"] > dots[1].x > dots[2].x and dots[0].y > dots[1].y > dots[2].y
    assert "compact: 8,250 bytes of flash, harm 1.500" in view["plot"]["summary"]


def test_a_run_with_8_bits_or_bits_by_hand():
    assert allocation_view({}) is None
    assert allocation_view({"layers": found()["layers"]})["plot"] is None


def test_the_page():
    data = full()
    assert 'id="bits"' not in render_report(data)
    data.allocation = found()
    page = render_report(data)
    assert 'id="bits"' in page and "conv&lt;1&gt;" in page and "quality (trained here)" in page
