"""One search by several processes, over keras-tuner's service: the chief has the ledger and hands out trials, workers try them.

The service is not encrypted and asks for no password: it listens on this machine alone unless the user names another address.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine.trial import Trial as Handed
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient

from tinykit.errors import ConfigError
from tinykit.recipe.interrupt import StopFlag
from tinykit.search.trials import Trial
from tinykit.search.tuner.address import PATIENCE, check_worker, parse_address
from tinykit.search.tuner.desk import Desk, Task
from tinykit.search.tuner.space import TuneSpace
from tinykit.search.tuner.worker import Attempt, Tuner

_CALL = 5.0
_POLL = 0.2
_ONE_AT_A_TIME = threading.Lock()
_VARIABLES = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID")


@contextmanager
def _environment(host: str, port: int, name: str) -> Iterator[None]:
    """What keras-tuner finds in its environment while a worker's tuner is made."""
    with _ONE_AT_A_TIME, _replaced(dict(zip(_VARIABLES, (host, str(port), name)))):
        yield


@contextmanager
def _replaced(values: dict[str, str]) -> Iterator[None]:
    """Other variables of the environment within the block."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            os.environ.update({} if value is None else {key: value})


@contextmanager
def served(desk: Desk, address: str, stop: StopFlag, log: Callable[[str], None]) -> Iterator[None]:
    """Serves workers until all trials are done; within the block late ones are told that the search is over.

    Raises:
        ConfigError: the address cannot be listened at.
        Terminated: SIGTERM.
    """
    host, port = parse_address(address)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(desk), server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigError(f"--chief {address}: cannot be listened at: {error}; is another chief there?") from None
    server.start()
    log(f"chief at {host}:{bound}: waiting for workers: python -m tinykit.search ... --chief {host}:{bound} --worker NAME")
    try:
        while not desk.over:
            stop.check()
            time.sleep(_POLL)
        yield
        until = time.monotonic() + desk.lease
        while not desk.everybody_knows and time.monotonic() < until:
            stop.check()
            time.sleep(_POLL)
    finally:
        server.stop(grace=1.0).wait()


class Chief(OracleClient):
    """The chief as a worker sees it: calls are repeated until they are answered, for a chief may be killed and started again.

    Args:
        oracle: the space, as keras-tuner wants it.
        stop: asks the worker to end.
        over: whether the search is known to be complete without a chief.
        patience: seconds without an answer after which a worker gives up.
    """

    def __init__(self, oracle: keras_tuner.Oracle, stop: StopFlag, over: Callable[[], bool], patience: float) -> None:
        super().__init__(oracle)
        self._where = f"{os.environ[_VARIABLES[0]]}:{os.environ[_VARIABLES[1]]}"
        self._stop, self._over, self._patience = stop, over, patience
        channel = grpc.insecure_channel(self._where, options=[("grpc.enable_http_proxy", 0)])  # a chief is never behind a proxy for the web
        self.stub = protos.get_service_grpc().OracleStub(channel)

    def _ask(self, call: Any, request: Any) -> Any:
        """The answer; None where the search is over and nobody answers. Every request may be repeated: see Desk."""
        until = time.monotonic() + self._patience
        while True:
            self._stop.check()
            try:
                return call(request, timeout=_CALL)
            except grpc.RpcError as error:
                code = error.code()
                if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                    raise ConfigError(f"--chief {self._where}: {code.name.lower()}: {error.details()}") from None
            if self._over():
                return None
            if time.monotonic() > until:
                raise ConfigError(f"--chief {self._where}: no answer for {self._patience:.0f} s: start the chief again, and this worker")
            time.sleep(_POLL)

    def create_trial(self, tuner_id: str) -> Handed:
        """See Desk."""
        answer = self._ask(self.stub.CreateTrial, protos.get_service().CreateTrialRequest(tuner_id=tuner_id))
        if answer is None:
            return Handed(keras_tuner.HyperParameters(), trial_id="", status=TrialStatus.STOPPED)
        return Handed.from_proto(answer.trial)

    def get_trial(self, trial_id: str) -> Handed:
        """Of what keras-tuner asks of it, a trial without any metrics is the answer: all of a trial comes at its end."""
        return Handed(keras_tuner.HyperParameters(), trial_id=trial_id)

    def update_trial(self, trial_id: str, metrics: Any, step: int = 0) -> Handed:
        """Nothing is sent."""
        return self.get_trial(trial_id)

    def end_trial(self, trial: Handed) -> None:
        """See Desk."""
        self._ask(self.stub.EndTrial, protos.get_service().EndTrialRequest(trial=trial.to_proto()))

    def alive(self, trial_id: str) -> None:
        """Tells the chief that a trial is being tried; that nobody hears it is no error."""
        try:
            self.stub.GetTrial(protos.get_service().GetTrialRequest(trial_id=trial_id), timeout=_CALL)
        except grpc.RpcError:
            return


class _Heart:
    """An attempt with a sign of life every few seconds."""

    def __init__(self, attempt: Attempt, beat: float) -> None:
        self.attempt, self.beat = attempt, beat
        self.chief: Chief | None = None

    def __call__(self, task: Task) -> Trial:
        done = threading.Event()

        def beats() -> None:
            while not done.wait(self.beat):
                if self.chief is not None:
                    self.chief.alive(str(task.number))

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            return self.attempt(task)
        finally:
            done.set()
            thread.join()


def work(
    name: str, address: str, space: TuneSpace, attempt: Attempt, stop: StopFlag, folder: Path, *,
    over: Callable[[], bool] = lambda: False, beat: float = 10.0, patience: float = PATIENCE,
) -> None:  # fmt: skip
    """Tries trials of a chief until there are none.

    Args:
        name: of this worker; a worker that is started again with its name goes on with its trial.
        address: of the chief.
        folder: of the search.
        over: whether the search is known to be complete without a chief.
        beat: seconds between signs of life.
        patience: seconds without an answer after which it gives up.

    Raises:
        ConfigError: a name or an address that is none, or a chief that does not answer.
        TinykitError, OSError: what ended an attempt.
    """
    check_worker(name)
    host, port = parse_address(address)
    heart = _Heart(attempt, beat)
    oracle = keras_tuner.Oracle(objective=keras_tuner.Objective("score", "max"), hyperparameters=space.hyperparameters())
    with _environment(host, port, name):
        tuner = Tuner(oracle, heart, stop, folder)
        heart.chief = tuner.oracle = Chief(oracle, stop, over, patience)
    tuner.work()
