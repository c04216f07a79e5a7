"""A chief and its workers on loopback: no trial is lost or done twice, whoever is killed. Trials are stubs that sleep."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tuner_stubs import Study, row, section

from tinykit.errors import ConfigError, Terminated
from tinykit.recipe.interrupt import StopFlag
from tinykit.search.trials import Trials
from tinykit.search.tuner.address import LOOPBACK, check_worker, parse_address
from tinykit.search.tuner.desk import ROW
from tinykit.search.tuner.distributed import served, work
from tinykit.search.tuner.space import TuneSpace

HERE = Path(__file__).parent
WORKER = """
import sys, time
from pathlib import Path
from tuner_stubs import row, section
from tinykit.recipe.interrupt import StopFlag
from tinykit.search.tuner.distributed import work
from tinykit.search.tuner.space import TuneSpace

def attempt(task):
    Path(sys.argv[2]).write_text(task.key)
    time.sleep(600)

work("lost", sys.argv[1], TuneSpace(section("random").parameters), attempt, StopFlag(), Path("."), beat=0.2)
"""


class Team:
    """A chief in this process, and workers as threads."""

    def __init__(self, folder: Path, tune, lease: float = 30.0) -> None:
        self.folder, self.tune, self.lease = folder, tune, lease
        self.port = 0
        self.tried: list[tuple[str, str]] = []
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def chief(self, stop: StopFlag | None = None) -> None:
        """Serves until the search is over, or `stop` was asked."""
        study = Study(self.folder, self.tune, lease=self.lease)
        with served(study.desk, str(self.port), stop or StopFlag(), self._note):
            for thread in self.threads:
                thread.join()

    def _note(self, line: str) -> None:
        self.port = int(line.split(":")[1])

    def worker(self, name: str, seconds: float = 0.05) -> None:
        def attempt(task):
            self.tried.append((name, task.key))
            time.sleep(seconds)
            return row(task)

        def run() -> None:
            try:
                while not self.port:
                    time.sleep(0.05)
                work(
                    name,
                    f"{LOOPBACK}:{self.port}",
                    TuneSpace(self.tune.parameters),
                    attempt,
                    StopFlag(),
                    self.folder,
                    beat=0.1,
                    patience=60,
                )
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()


def keys(folder: Path) -> list[str]:
    return [each.key for each in Trials(folder / "trials.jsonl").rows]


@pytest.mark.parametrize("method", ["random", "nsga2", "hyperband"])
def test_two_workers_share_one_search(tmp_path, method):
    team = Team(tmp_path, section(method))
    team.worker("one")
    team.worker("two")
    team.chief()
    assert not team.errors
    found = keys(tmp_path)
    assert sorted(key for _, key in team.tried) == sorted(found) and len(set(found)) == len(found)
    assert {name for name, _ in team.tried} == {"one", "two"}
    if method == "random":  # proposals of a random search follow from their numbers alone
        alone = Study(tmp_path / "alone", section(method)).run()
        assert sorted(found) == sorted(each.key for each in alone)


def test_a_chief_that_is_killed_goes_on_and_its_workers_wait(tmp_path):
    team = Team(tmp_path, section("random", trials=8))
    for name in ("one", "two"):
        team.worker(name, 0.4)

    class After(StopFlag):
        """Asked as soon as so many trials have begun."""

        def __init__(self, begun: int) -> None:
            super().__init__()
            self.begun = begun

        def check(self) -> None:
            if len(team.tried) >= self.begun:
                self.ask()
            super().check()

    for begun in (1, 3, 5):
        with pytest.raises(Terminated):
            team.chief(After(begun))
    team.chief()
    assert not team.errors
    found = keys(tmp_path)
    assert len(found) == 8 == len(set(found)) and sorted(key for _, key in team.tried) == sorted(found)


def test_the_trial_of_a_killed_worker_is_tried_by_another(tmp_path):
    team = Team(tmp_path, section("random", trials=4), lease=2.0)
    mark = tmp_path / "mark"
    chief = threading.Thread(target=team.chief)
    chief.start()
    while not team.port:
        time.sleep(0.05)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    lost = subprocess.Popen([sys.executable, "-c", WORKER, f"{LOOPBACK}:{team.port}", str(mark)], env=environment)
    try:
        while not mark.exists():
            assert lost.poll() is None
            time.sleep(0.1)
    finally:
        lost.send_signal(signal.SIGKILL)
        lost.wait()
    team.worker("other")
    chief.join()
    team.threads[0].join()
    found = keys(tmp_path)
    assert not team.errors and len(found) == 4 == len(set(found))
    assert ("other", mark.read_text()) in team.tried and len(team.tried) == 4


def test_leases_end_when_nothing_is_heard(tmp_path):
    now = [0.0]
    study = Study(tmp_path, section("random", trials=2), lease=60.0, clock=lambda: now[0])
    one = study.desk.create_trial("one")
    now[0] = 50.0
    study.desk.get_trial(one.trial_id)  # a sign of life
    now[0] = 100.0
    assert study.desk.create_trial("two").trial_id == "1"
    assert study.desk.create_trial("three").status == "IDLE"
    assert study.desk.create_trial("one").trial_id == "0"  # it was started again
    now[0] = 161.0
    assert study.desk.create_trial("three").trial_id in ("0", "1")


def test_a_row_that_comes_twice_is_taken_once(tmp_path):
    from tinykit.search.tuner.desk import TASK, Task

    study = Study(tmp_path, section("random", trials=2), lease=60.0)
    handed = study.desk.create_trial("one")
    handed.hyperparameters.values[ROW] = row(Task.from_json(handed.hyperparameters.values[TASK])).to_json()
    study.desk.end_trial(handed)
    study.desk.end_trial(handed)
    assert len(study.ledger.rows) == 1 == len((tmp_path / "trials.jsonl").read_text().splitlines())


@pytest.mark.parametrize("text", [None, "{}", "[1]", "x" * 2_000_000, '{"key": "a", "violations": []}'])
def test_a_row_that_is_none_is_refused(tmp_path, text):
    study = Study(tmp_path, section("random", trials=2), lease=60.0)
    handed = study.desk.create_trial("one")
    if text is not None:
        handed.hyperparameters.values[ROW] = text
    with pytest.raises(ValueError, match="row"):
        study.desk.end_trial(handed)
    assert not study.ledger.rows


def test_addresses_and_names():
    assert parse_address("7077") == parse_address(":7077") == (LOOPBACK, 7077)
    assert parse_address("0.0.0.0:7077") == ("0.0.0.0", 7077) and parse_address("node-3.local:1")[0] == "node-3.local"
    for wrong in ("", "host", "host:", "host:99999", "a b:1", "host:1:2"):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            parse_address(wrong)
    check_worker("node3.7")
    for wrong in ("chief", "a/b", "", "-x", "x" * 65):
        with pytest.raises(ConfigError, match="--worker"):
            check_worker(wrong)


def test_a_worker_without_a_chief_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"no answer for .* s: start the chief"):
        work("one", "9", TuneSpace(section("random").parameters), row, StopFlag(), tmp_path, patience=0.5)


def test_two_chiefs_at_one_address_are_refused(tmp_path):
    team = Team(tmp_path / "a", section("random", trials=2))
    chief = threading.Thread(target=team.chief)
    chief.start()
    while not team.port:
        time.sleep(0.05)
    other = Team(tmp_path / "b", section("random", trials=2))
    other.port = team.port
    with pytest.raises(ConfigError, match="cannot be listened at"):
        other.chief()
    team.worker("one")
    chief.join()
    assert len(keys(tmp_path / "a")) == 2
