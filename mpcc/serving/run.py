"""One role as a process: its service, and its HTTP front until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import uvicorn

from mpcc.runtime.net.handshake import DEALER, HELPER, SERVER
from mpcc.runtime.session.process import at_work

from .config import Http, ServeConfig
from .dealer import DealerService
from .front import application
from .helper import HelperService
from .log import Log
from .served import Served
from .server import ServerService
from .service import Service

SERVICES: dict[str, type[Service]] = {SERVER: ServerService, HELPER: HelperService, DEALER: DealerService}
KEEP_ALIVE_SECONDS = 75
MOST_CONNECTIONS = 2048
"""One more is answered with 503 at once."""
STOP_SECONDS = 5


def serve(served: Served, config: ServeConfig, where: Mapping[str, Any] | None = None, log: Log | None = None) -> None:
    """Run a role until SIGINT or SIGTERM. UsageError, SecurityError, PartyError before anything is served."""
    config.check()
    at_work(config.limits.threads)
    service = SERVICES[config.role](served, config, log)
    service.start()
    service.log("start", model=served.digest, batches=str(list(served.programs)))
    try:
        if config.http is None:
            threading.Event().wait()
        else:
            front(service, config.http, where).run()
    except KeyboardInterrupt:
        pass
    finally:
        service.stop()
        service.log("stop")


def front(service: Service, http: Http, where: Mapping[str, Any] | None = None) -> uvicorn.Server:
    """The HTTP server of a service."""
    return uvicorn.Server(
        uvicorn.Config(
            application(service, where),
            host=http.host,
            port=http.port,
            ssl_certfile=http.certificate,
            ssl_keyfile=http.key,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            limit_concurrency=MOST_CONNECTIONS,
        )
    )
