"""``python -m model``: ``work`` classifies what the server leases out, ``try`` tries a model, ``build`` makes models.

The command line is argparse's, not click's: a worker starts within tenths of a second, and importing click takes one.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from model import libraries
from model.runtimes import NAMES, named

if TYPE_CHECKING:
    from model.description import Model
    from model.runtimes.base import Runtime

TOKEN_SECONDS = 60.0
NOT_INSTALLED = 4
DEFAULT_DIRECTORY = Path(os.environ.get("TIERSERVE_MODELS", ".tierserve/models"))

log = logging.getLogger("model")


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status, with which ``work`` ends the process at once.

    It is 0 for success, 1 for an error, 3 when the server is unreachable, and 4 when a library is not installed.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="tierserve model", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    worker = commands.add_parser("work", help="lease pictures from the server and classify them until idle")
    worker.set_defaults(run=_work)
    worker.add_argument("--model", required=True, help="NAME@VERSION, or the name of a model directory")
    worker.add_argument(
        "--digest", default="", help="the model's SHA-256: if no directory has it, the server is asked for it"
    )
    worker.add_argument("--variant", default="fp32", help="fp32 or int8 (default: %(default)s)")
    worker.add_argument("--runtime", choices=NAMES, default="onnx", help="default: %(default)s")
    worker.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    worker.add_argument("--batch", type=int, default=1, help="most pictures at once (default: %(default)s)")
    worker.add_argument(
        "--idle", type=float, default=30.0, help="end after so many seconds without work (default: %(default)s)"
    )
    worker.add_argument("--max-predictions", type=int, default=100_000, help="end after so many (default: %(default)s)")
    worker.add_argument(
        "--max-pixels", type=int, default=24_000_000, help="most pixels of a picture (default: %(default)s)"
    )
    worker.add_argument(
        "--models", type=Path, default=DEFAULT_DIRECTORY, help="folder of the model directories (default: %(default)s)"
    )
    trial = commands.add_parser("try", help="load a variant of a model, and classify a made picture")
    trial.set_defaults(run=_try)
    trial.add_argument("directory", type=Path, metavar="DIR", help="the model's folder")
    trial.add_argument("runtime", choices=NAMES)
    trial.add_argument("variant", help="fp32 or int8")
    # A worker must start fast, so it does not import what builds models; images of workers do not even contain it.
    if arguments[:1] not in (["work"], ["try"]) and find_spec("model.build") is not None:
        from model.build.command import add_commands

        add_commands(commands)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    status: int = options.run(options)
    return status


class _CannotBegin(Exception):
    """``status`` is the exit status."""

    def __init__(self, why: str, status: int = 1) -> None:
        super().__init__(why)
        self.status = status


def _work(options: argparse.Namespace) -> NoReturn:
    """End the process with the exit status, without what libraries do at its end: it takes some tenths of a second.

    The Jobs of other tiers may wait for what this process has used.
    """
    try:
        status = _set_up_and_work(options)
    except ImportError as error:
        log.error("cannot set up: %s", libraries.told(error))
        status = NOT_INSTALLED
    logging.shutdown()
    with suppress(OSError):  # nobody reads the log any more
        sys.stdout.flush()
    os._exit(status)


def _set_up_and_work(options: argparse.Namespace) -> int:
    # Signals are blocked before the imports, because the threads that libraries start inherit the mask. A signal that
    # comes during the set-up stays pending until the worker waits for it, and then the worker ends in good order.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        server, token = os.environ["TIERSERVE_SERVER"], _token_source()
        model, runtime = _loaded(options, server, token)
    except KeyError as error:
        log.error("no %s in the environment: workers are started by the server", error.args[0])
        return 1
    except (_CannotBegin, OSError) as error:
        log.error("cannot set up: %s", error)
        return error.status if isinstance(error, _CannotBegin) else 1
    from model.channel import RequestRejected
    from model.decoder import DecoderUnavailable
    from model.line import ServerGone
    from model.terms import Terms
    from model.worker import Worker

    terms = Terms(options.idle, options.max_predictions, options.max_pixels, options.batch)
    try:
        log.info("ended: %s", Worker(server, token, model, runtime, terms).run())
    except (RequestRejected, DecoderUnavailable) as error:
        log.error("ended: %s", error)
        return 1
    except ServerGone as error:
        log.error("ended: %s", error)
        return 3
    return 0


def _try(options: argparse.Namespace) -> int:
    from model.description import ModelError, read_model

    try:
        from model.trial import set_up

        model = read_model(options.directory)
        model.check_digest()
        set_up(model, named(options.runtime), options.variant)
    except ImportError as error:
        log.error("%s", libraries.told(error))
        return NOT_INSTALLED
    except (ModelError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


def _loaded(options: argparse.Namespace, server: str, token: Callable[[], str]) -> tuple[Model, Runtime]:
    """Return the model and a runtime that has loaded it. Raises ``_CannotBegin``."""
    from model.description import ModelError, find_model, read_model

    only = (options.runtime, options.variant)
    try:
        if not options.digest:
            found: Model | None = read_model(options.models / options.model, only)
        else:
            found = find_model(options.models, options.model, options.digest, only)
        if found is None:
            return _fetched(options, server, token)
        from model.trial import set_up

        runtime = named(options.runtime)
        set_up(found, runtime, options.variant, options.device)
        return found, runtime
    except ModelError as error:
        raise _CannotBegin(str(error)) from error


def _fetched(options: argparse.Namespace, server: str, token: Callable[[], str]) -> tuple[Model, Runtime]:
    """As ``_loaded``, of a model that the server has. Raises ``ModelError`` too."""
    from model.fetch import Fetch, Interrupted, ServerAway, Wanted

    only = (options.runtime, options.variant)
    try:
        with Fetch(server, token, Wanted(options.model, options.digest, *only)) as fetch:
            from model.trial import set_up

            import_module("model.worker")
            runtime = named(options.runtime)  # all of it is imported while the model is on its way
            model = fetch.model()
            set_up(model, runtime, options.variant, options.device)
            return model, runtime
    except ServerAway as error:
        raise _CannotBegin(str(error), 3) from error
    except Interrupted as error:
        raise _CannotBegin(str(error), 0) from error


def _token_source() -> Callable[[], str]:
    """Return a function that returns the worker's token. Kubernetes renews a token file while the worker runs.

    Raises ``KeyError`` when the environment names neither a token nor a file, ``OSError`` when the file is unreadable.
    """
    given = os.environ.get("TIERSERVE_TOKEN")
    if given is not None:
        return lambda: given
    file = Path(os.environ["TIERSERVE_TOKEN_FILE"])

    # The cache holds one entry, whose key is the number of the minute: so the file is read once in ``TOKEN_SECONDS``.
    @lru_cache(maxsize=1)
    def read(_minute: int) -> str:
        return file.read_text().strip()

    def token() -> str:
        return read(int(time.monotonic() // TOKEN_SECONDS))

    token()  # a file that cannot be read is reported at once, not with the first request
    return token


if __name__ == "__main__":
    sys.exit(main())
