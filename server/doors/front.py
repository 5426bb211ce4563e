"""The application: FastAPI, with the doors in front of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.doors.errors import ERROR_TABLE, ErrorReply, openapi_responses

_SCHEMAS = "#/components/schemas/{name}"
_REQUEST_ID = {"X-Request-Id": {"description": "The request's id: its own, or one made here.", "schema": {"type": "string"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """How a door looks in OpenAPI.

    Attributes:
        operation_id: what generated clients call it.
        parameters: the headers that it heeds.
        error_codes: those of our codes that it calls otherwise.
    """

    operation_id: str
    summary: str
    request: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    parameters: Sequence[dict[str, Any]]
    error_codes: Mapping[str, str]
    max_body_bytes: int
    needs_key: bool


class GuardApp(FastAPI):
    """FastAPI, but a POST on a door's path goes to the door at once: neither middleware nor routing is in its way.

    The router knows the doors' paths too, for the refusal of other methods, and OpenAPI describes them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(generate_unique_id_function=lambda route: route.name, **options)
        self._doors: dict[str, ASGIApp] = {}
        self._documented: dict[str, Documented] = {}
        self._schemas: list[type[msgspec.Struct]] = [ErrorReply]
        self._fields: dict[str, Mapping[str, Any]] = {}

    def open_door(self, path: str, door: ASGIApp, documented: Documented) -> None:
        self._doors[path] = door
        self._documented[path] = documented
        self.router.routes.append(Route(path, door, methods=["POST"], include_in_schema=False))

    def add_schemas(self, *forms: type[msgspec.Struct]) -> None:
        """Let OpenAPI describe these too, for routes of FastAPI's that refer to them."""
        self._schemas.extend(forms)

    def describe_fields(self, fields: Mapping[str, Mapping[str, Any]]) -> None:
        """By schema and field, what OpenAPI adds of what the types don't say and the server holds bodies to."""
        self._fields.update(fields)

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
            for name, fields in self._fields.items():
                for field, more in fields.items():
                    components[name]["properties"][field] |= more
            for response in _responses(schema):
                response["headers"] = response.get("headers", {}) | _REQUEST_ID
            known = schema.setdefault("components", {})
            known["schemas"] = known.get("schemas", {}) | components
            if any(documented.needs_key for documented in self._documented.values()):
                known["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        assert self.openapi_schema is not None, "FastAPI keeps what it made"
        return self.openapi_schema


def reference(form: type[msgspec.Struct]) -> dict[str, str]:
    """How OpenAPI refers to a structure among its components."""
    return {"$ref": _SCHEMAS.format(name=form.__name__)}


def request_body(form: type[msgspec.Struct], *, max_bytes: int) -> dict[str, Any]:
    """How OpenAPI describes the body of a request."""
    description = f"JSON in UTF-8, not compressed, of at most {max_bytes} bytes."
    return {"required": True, "description": description, "content": {"application/json": {"schema": reference(form)}}}


def _responses(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in schema["paths"].values():
        for operation in path.values():
            yield from operation["responses"].values()


def _operation(documented: Documented) -> dict[str, Any]:
    body = request_body(documented.request, max_bytes=documented.max_body_bytes)
    reply = {"application/json": {"schema": reference(documented.reply)}}
    answered = {"description": "Every text has a result.", "content": reply}
    operation = {
        "operationId": documented.operation_id,
        "summary": documented.summary,
        "parameters": list(documented.parameters),
        "requestBody": body,
        "responses": {"200": answered}
        | {
            str(status): response
            for status, response in openapi_responses(reference(ErrorReply), ERROR_TABLE, codes=documented.error_codes).items()
        },
    }
    return operation | ({"security": [{"key": []}]} if documented.needs_key else {})
