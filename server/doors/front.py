"""The application: FastAPI, with the doors in front of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.doors.errors import ErrorReply, openapi_responses

_SCHEMAS = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """How a door looks in OpenAPI.

    Attributes:
        field_schemas: for fields of the request whose types don't say all that the door holds them to.
        parameters: the headers that it heeds.
    """

    summary: str
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    field_schemas: Mapping[str, Any]
    parameters: Sequence[dict[str, Any]]
    needs_key: bool


class GuardApp(FastAPI):
    """FastAPI, but a POST on a door's path goes to the door at once: neither middleware nor routing is in its way.

    The router knows the doors' paths too, for the refusal of other methods, and OpenAPI describes them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._doors: dict[str, ASGIApp] = {}
        self._documented: dict[str, Documented] = {}
        self._schemas: list[type[msgspec.Struct]] = [ErrorReply]

    def open_door(self, path: str, door: ASGIApp, documented: Documented) -> None:
        self._doors[path] = door
        self._documented[path] = documented
        self.router.routes.append(Route(path, door, methods=["POST"], include_in_schema=False))

    def add_schemas(self, *forms: type[msgspec.Struct]) -> None:
        """Let OpenAPI describe these too, for routes of FastAPI's that refer to them."""
        self._schemas.extend(forms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            door = self._doors.get(scope["path"])
            if door is not None:
                await door(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """FastAPI's own, and the doors: each schema is generated from the structure that the door reads or writes."""
        if self.openapi_schema is None:
            schema = super().openapi()
            forms = [form for door in self._documented.values() for form in (door.request, door.reply)]
            _, components = msgspec.json.schema_components([*forms, *self._schemas], ref_template=_SCHEMAS)
            for path, documented in self._documented.items():
                schema["paths"][path] = {"post": _operation(documented)}
                components[documented.request.__name__]["properties"].update(documented.field_schemas)
            known = schema.setdefault("components", {})
            known["schemas"] = known.get("schemas", {}) | components
            if any(documented.needs_key for documented in self._documented.values()):
                known["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return self.openapi_schema


def reference(form: type[msgspec.Struct]) -> dict[str, str]:
    """How OpenAPI refers to a structure among its components."""
    return {"$ref": _SCHEMAS.format(name=form.__name__)}


def _operation(documented: Documented) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": reference(documented.request)}}}
    reply = {"application/json": {"schema": reference(documented.reply)}}
    answered = {"description": "Every text has a result.", "content": reply}
    operation = {
        "summary": documented.summary,
        "parameters": list(documented.parameters),
        "requestBody": body,
        "responses": {"200": answered} | openapi_responses(reference(ErrorReply)),
    }
    return operation | ({"security": [{"key": []}]} if documented.needs_key else {})
