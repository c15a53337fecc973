"""A request whose body is pictures, which are counted and bounded as they come."""

from __future__ import annotations

from tornado.web import stream_request_body

from server.http.base import PublicHandler
from server.http.services import Services
from server.intake.upload import Upload
from server.metrics import OTHER
from server.problems import Problem


@stream_request_body
class UploadHandler(PublicHandler):
    """A subclass says in ``admit`` how long the body may get, and takes it in ``post``."""

    upload: Upload

    def initialize(self, services: Services, route: str = OTHER) -> None:
        """Called by Tornado for each request."""
        super().initialize(services, route)
        self.upload = Upload(self.request.headers, services.uploads)

    def refuse(self, problem: Problem) -> None:
        """Answer before all of the body has come, and go on receiving it, as most clients send all before they read."""
        if self.request.method != "POST":
            raise problem
        self.upload.refuse()
        if not self.upload.runs_out:
            self.set_header("Connection", "close")
        self.write_problem(problem)
        self.flush()  # not finish(), at which Tornado closes a connection whose body has not all come

    def data_received(self, chunk: bytes) -> None:
        """Called by Tornado for each part of the body."""
        try:
            self.upload.receive(chunk)
        except Problem as problem:
            self.refuse(problem)
        if self.upload.outstays:
            self.finish()

    def on_connection_close(self) -> None:
        """The client hung up: what it has sent so far is forgotten, what was accepted is kept."""
        super().on_connection_close()
        self.upload.release()

    def on_finish(self) -> None:
        """Called by Tornado after the answer."""
        super().on_finish()
        self.upload.release()
