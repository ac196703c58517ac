"""A server like Google's store on this machine: an emulator's, with conditions, which it lacks."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.server import create_server


class GoogleServer:
    """A running server.

    Attributes:
        address: for STORAGE_EMULATOR_HOST.
    """

    def __init__(self) -> None:
        for name in ("_media_upload", "_multipart_upload"):
            setattr(objects, name, conditional(getattr(objects, name)))
        self._server = create_server("127.0.0.1", 0, in_memory=True)
        self._server.start()
        self._server._api._httpd.handle_error = lambda *_: None  # of answers nobody waited for
        self.address = f"http://127.0.0.1:{self._server._api._httpd.server_port}"

    def make_bucket(self, name: str) -> None:
        """Make one."""
        from gcp_storage_emulator.handlers import buckets

        buckets.create_bucket(name, self._server._storage)

    def stop(self) -> None:
        """End it."""
        self._server.stop()


def conditional(upload: Callable[..., None]) -> Callable[..., None]:
    """Refuse an upload as the store's documentation says: `ifGenerationMatch`, 0 for none."""

    def checked(request: Any, response: Any, storage: Any) -> None:
        wanted = request.query.get("ifGenerationMatch")
        if wanted is not None:
            named = request.query.get("name")
            name = named[0] if named else request.data["meta"]["name"]
            try:
                found = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
            except NotFound:
                found = "0"
            if str(found) != wanted[0]:
                response.status = HTTPStatus.PRECONDITION_FAILED
                response.json({"error": {"code": 412, "message": "conditionNotMet"}})
                return
        upload(request, response, storage)

    return checked
