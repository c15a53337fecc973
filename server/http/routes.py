"""Says which handler answers which path on which port, and sets the limits of connections."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import Application

from server.http import access_log
from server.http.base import BaseHandler
from server.http.descriptors import shares
from server.http.facades.hugging_face import HuggingFaceHandler
from server.http.facades.kserve import ModelOrTierHandler, PredictHandler
from server.http.facades.open_inference import (
    InferHandler,
    LiveHandler,
    ModelMetadataHandler,
    ModelReadyHandler,
    ServerHandler,
    ServerReadyHandler,
)
from server.http.facades.torchserve import PingHandler, TorchServeHandler
from server.http.internal.channel import ChannelHandler
from server.http.internal.fetching import WorkerFileHandler, WorkerRecordHandler
from server.http.internal.handshake import RetiredHandler
from server.http.internal.keys import KeyHandler, KeysHandler, RotateHandler
from server.http.internal.metrics import MetricsHandler
from server.http.internal.models import StoredFileHandler, StoredModelHandler, StoredModelsHandler, TagHandler
from server.http.internal.rollback import RollbackHandler
from server.http.listener import Listener
from server.http.public.activity import ActivityHandler
from server.http.public.base import NotFoundHandler
from server.http.public.classify import ClassifyHandler
from server.http.public.docs import DocsHandler, InterfaceHandler
from server.http.public.event_stream import written
from server.http.public.events import PredictionEventsHandler, PredictionsEventsHandler
from server.http.public.health import HealthHandler, ReadyHandler
from server.http.public.listing import PredictionsHandler
from server.http.public.models import ModelsHandler
from server.http.public.options import OptionsHandler
from server.http.public.page import DocumentHandler, PageFileHandler
from server.http.public.predictions import PredictionHandler
from server.http.public.states import States
from server.http.public.tiers import ConfigHandler, TierHandler, TiersHandler
from server.http.public.tiers_events import TIERS, TiersEventsHandler
from server.http.public.told import event_told
from server.http.services import Services
from server.metrics import OTHER
from server.problems import Problem

log = logging.getLogger(__name__)

UNBOUNDED = 1 << 40  # past its limit Tornado just says 400 and closes the connection; ``BaseHandler`` answers 413

PUBLIC: Mapping[str, type[BaseHandler]] = {
    "/": DocumentHandler,
    "/watch": DocumentHandler,
    "/page/{file}": PageFileHandler,
    "/docs": DocsHandler,
    "/docs/{file}": DocsHandler,
    "/openapi.json": InterfaceHandler,
    "/img-classification/{tier}": ClassifyHandler,
    "/hf/{tier}": HuggingFaceHandler,
    "/ping": PingHandler,
    "/predictions/{tier}": TorchServeHandler,
    "/predictions/{tier}/{version}": TorchServeHandler,
    "/v2": ServerHandler,
    "/v2/health/live": LiveHandler,
    "/v2/health/ready": ServerReadyHandler,
    "/v2/models/{tier}": ModelMetadataHandler,
    "/v2/models/{tier}/ready": ModelReadyHandler,
    "/v2/models/{tier}/infer": InferHandler,
    "/v2/models/{tier}/versions/{version}": ModelMetadataHandler,
    "/v2/models/{tier}/versions/{version}/ready": ModelReadyHandler,
    "/v2/models/{tier}/versions/{version}/infer": InferHandler,
    "/v1/predictions": PredictionsHandler,
    "/v1/predictions/events": PredictionsEventsHandler,  # before the next one, which would match too
    "/v1/predictions/{id}": PredictionHandler,
    "/v1/predictions/{id}/events": PredictionEventsHandler,
    "/v1/models": ModelsHandler,
    "/v1/models/{tier}:predict": PredictHandler,  # before the next one, which would match too
    "/v1/models/{reference}": ModelOrTierHandler,
    "/v1/tiers": TiersHandler,
    "/v1/tiers/events": TiersEventsHandler,
    "/v1/tiers/{tier}": TierHandler,
    "/v1/tiers/{tier}/activity": ActivityHandler,
    "/config": ConfigHandler,
    "/healthz": HealthHandler,
    "/readyz": ReadyHandler,
}
INTERNAL: Mapping[str, type[BaseHandler]] = {
    "/work/channel": ChannelHandler,
    "/work/models/{reference}": WorkerRecordHandler,
    "/work/model-files/{sha256}": WorkerFileHandler,
    "/work/lease": RetiredHandler,
    "/work/complete": RetiredHandler,
    "/work/extend": RetiredHandler,
    "/work/release": RetiredHandler,
    "/v1/keys": KeysHandler,
    "/v1/keys/{id}": KeyHandler,
    "/v1/keys/{id}/rotate": RotateHandler,
    "/v1/model-files/{sha256}": StoredFileHandler,
    "/v1/models": StoredModelsHandler,
    "/v1/models/{reference}": StoredModelHandler,
    "/v1/models/{reference}/tags/{tag}": TagHandler,
    "/v1/tiers/{tier}/rollback": RollbackHandler,
    "/metrics": MetricsHandler,
    # Here too, for the kubelet: whatever happens on the public port, it must not take the server for dead.
    "/healthz": HealthHandler,
    "/readyz": ReadyHandler,
}


def public_server(services: Services) -> Listener:
    """What clients reach, once it has sockets."""
    states = States(services)
    services.following.look, services.following.ended = states.look, states.ended
    services.showing.look, services.showing.write = partial(event_told, services), partial(written, TIERS)
    return _server(services, PUBLIC, shares().public, shared=True, crowded=services.wakeups.hurry)


def internal_server(services: Services) -> Listener:
    """What workers and operators reach, once it has sockets."""
    return _server(services, INTERNAL, shares().internal)


def _server(
    services: Services,
    routes: Mapping[str, type[BaseHandler]],
    most_connections: int,
    shared: bool = False,
    crowded: Callable[[], None] = lambda: None,
) -> Listener:
    given = {"services": services, "shared": shared}
    methods = {method for handler in routes.values() for method in handler.methods() | OptionsHandler.methods()}
    of_all = Rule(PathMatches(r"\*"), OptionsHandler, {**given, "allow": sorted(methods)})
    rules = [rule for route, handler in routes.items() for rule in _rules(route, handler, services, shared=shared)]
    application = Application(
        [*rules, of_all],
        default_handler_class=NotFoundHandler,
        default_handler_args={**given, "allow": sorted(NotFoundHandler.methods()), "routes": list(routes)},
        log_function=_log_request,
    )

    def refused(problem: Problem, address: str, request_id: str) -> None:
        services.metrics.rejected("", problem.body["code"])
        services.metrics.answered(OTHER, OTHER, problem.status, 0)
        access_log.write(
            services.settings.access_log,
            services.clock(),
            {"request_id": request_id, "address": address, "status": int(problem.status), "code": problem.body["code"]},
        )

    return Listener(
        application,
        most=most_connections,
        lingering=shares().lingering,
        refused=refused,
        crowded=crowded,
        max_body_size=UNBOUNDED,
    )


class _Asked(PathMatches):
    """Requests with ``OPTIONS`` for a path."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """As Tornado's."""
        return super().match(request) if request.method == "OPTIONS" else None


def _matching(route: str) -> str:
    """What a path of the route looks like; many clients end it with a slash."""
    path = re.sub(r"{\w+}", "([^/]+)", route)
    return path if path == "/" else f"{path}/?"


def _rules(route: str, handler: type[BaseHandler], services: Services, *, shared: bool) -> Iterator[Rule]:
    """What answers a route; of one that is ``shared`` with pages of other sites, ``OPTIONS`` too."""
    path = _matching(route)
    allow = sorted(handler.methods() | OptionsHandler.methods() if shared else handler.methods())
    given = {"services": services, "allow": allow, "shared": shared, "route": route}
    if shared:
        yield Rule(_Asked(path), OptionsHandler, given)
    yield Rule(PathMatches(path), handler, given)


def _log_request(handler: BaseHandler) -> None:
    handler.count()
    handler.log_access()
    handler.trace_request()
    # A refusal for want of room or storage is told once an outage, by ``StorageCheck``, and counted by its code.
    if handler.get_status() >= 500 and handler.get_status() != HTTPStatus.SERVICE_UNAVAILABLE:
        request = handler.request
        log.warning("%s %s answered %d", request.method, request.path, handler.get_status())
