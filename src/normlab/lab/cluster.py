"""Where dask does the runs: here, or on a cluster that somebody else has started."""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from distributed import Client, LocalCluster, Security, rpc
from distributed.utils import silence_logging_cmgr

from normlab import errors

CONNECT_SECONDS = 10.0
FREE_PORT = "127.0.0.1:0"


@contextmanager
def local(jobs: int) -> Iterator[Client]:
    """Threads of this process: each hands its run to a child and waits."""
    with ExitStack() as stack:
        try:
            with undisturbed():
                here = LocalCluster(
                    n_workers=1,
                    threads_per_worker=jobs,
                    processes=False,
                    protocol="inproc://",
                    dashboard_address=FREE_PORT,  # dask serves its metrics in any case: here to this machine alone
                    worker_dashboard_address=FREE_PORT,
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
                cluster = stack.enter_context(here)
                client = stack.enter_context(Client(cluster, set_as_default=False))
            yield client
        finally:
            with undisturbed():
                stack.close()


@contextmanager
def foreign(address: str, folder: Path) -> Iterator[Client]:
    """A cluster that was there before us and goes on when we have gone.

    Raises:
        UsageError: no scheduler answers at the address.
    """
    found: SimpleQueue[str] = SimpleQueue()  # from a thread, because a notebook has a loop of its own in this one
    threading.Thread(target=lambda: found.put(_trouble(address)), daemon=True).start()
    trouble = found.get()
    if trouble:
        problem = errors.Problem(
            "no dask scheduler answers at this address.",
            got=trouble,
            fix=f"start one with `dask scheduler`, then: normlab compare --resume {folder} --scheduler ADDRESS",
        )
        raise errors.UsageError(errors.message(f"--scheduler {address}", problem))
    with silence_logging_cmgr(logging.CRITICAL):  # a scheduler that goes is our error to tell, without a traceback
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        try:
            yield client
        finally:
            with undisturbed():
                client.close()


def _trouble(address: str) -> str:
    """Why there is no scheduler; asked before a client is made, which may wait for ever and leaves a traceback."""

    async def identity() -> dict[str, Any]:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as there:
            found: dict[str, Any] = await there.identity()
            return found

    try:
        kind = asyncio.run(asyncio.wait_for(identity(), CONNECT_SECONDS))["type"]
    except TimeoutError:
        return f"no answer within {CONNECT_SECONDS:g} s"
    except Exception as error:  # whatever a server of another kind says
        return str(error)
    return "" if kind == "Scheduler" else f"a {kind.lower()} of dask"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: dask leaves tracebacks when it is stopped as it starts or ends."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda *_: came.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt
