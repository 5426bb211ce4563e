"""Every door on its path, with its OpenAPI entry."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from server.core.artifact import Manifest
from server.doors import native, openai
from server.doors.door import Check, Dialect, Door, DoorLimits, DoorRoute
from server.doors.errors import openapi_responses
from server.observability.metrics import Metrics


def add_doors(app: FastAPI, *, check: Check, manifest: Manifest, metrics: Metrics, limits: DoorLimits) -> None:
    """Open both doors on ``app``."""

    def open_door(dialect: Dialect, path: str, request: type[BaseModel], reply: type[BaseModel], **documented: Any) -> None:
        door = Door(dialect, check=check, metrics=metrics, limits=limits)
        body = {"required": True, "content": {"application/json": {"schema": inline_schema(request)}}}
        app.router.add_api_route(
            path,
            door.serve,
            methods=["POST"],
            route_class_override=DoorRoute,
            response_model=reply,
            responses=openapi_responses(),
            openapi_extra={"requestBody": body} | documented,
            name=dialect.route,
        )

    open_door(native.NativeDialect(manifest, limits=limits), native.PATH, native.CheckRequest, native.CheckReply)
    header = {"name": openai.POLICY_HEADER, "in": "header", "required": False, "schema": {"type": "string"}}
    dialect = openai.OpenAIDialect(manifest, limits=limits)
    open_door(dialect, openai.PATH, openai.ModerationRequest, openai.ModerationReply, parameters=[header])


def inline_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema with every reference replaced by what it refers to, so that it can stand alone in OpenAPI."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(child) for child in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        return {key: resolve(child) for key, child in node.items()}

    return resolve(schema)
