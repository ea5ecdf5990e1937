"""JSON schemas of requests and results, as MCP tools and OpenAPI show them: what a caller needs, and no more.

Models read them into their context, so what repeats a name or the absence of a value is left out. A field that may be
None is one that may be left out, on the wire as in the schema: `null` is never shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from agent_mail_core.fields import Request, Result
from agent_mail_core.ids import LARGEST_ID


class CompactJsonSchema(GenerateJsonSchema):
    """Pydantic's schemas without titles, `null` alternatives and `null` defaults."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        described.pop("title", None)
        if issubclass(schema["cls"], Request):
            # The operation's own description says it already.
            described.pop("description", None)
        return described


class ToolJsonSchema(CompactJsonSchema):
    """Without the bounds of texts, lists and ids: a call that breaks one is told so; each costs tokens in a list."""

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        return {"type": "string"}

    def list_schema(self, schema: core_schema.ListSchema) -> JsonSchemaValue:
        described = super().list_schema(schema)
        return {key: value for key, value in described.items() if key not in ("minItems", "maxItems")}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        described = super().int_schema(schema)
        return {"type": "integer"} if described.get("maximum") == LARGEST_ID else described


def request_schema(model: type[Request]) -> dict[str, Any]:
    """The schema of an operation's arguments; other arguments are refused."""
    return model.model_json_schema(schema_generator=CompactJsonSchema)


def tool_schema(model: type[Request]) -> dict[str, Any]:
    """The same as tools show it, in fewer words."""
    return model.model_json_schema(schema_generator=ToolJsonSchema)


def result_schema(model: type[Result]) -> dict[str, Any]:
    """The schema of an operation's answer."""
    return model.model_json_schema(schema_generator=CompactJsonSchema)


def component_schemas(models: Iterable[type[Request | Result]], ref_template: str) -> dict[str, dict[str, Any]]:
    """The schemas of many models and of all that they contain, by name, for a document that refers to them.

    `ref_template` says how, such as `#/components/schemas/{model}`.
    """
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], schema_generator=CompactJsonSchema, ref_template=ref_template
    )
    return dict(definitions.get("$defs", {}))
