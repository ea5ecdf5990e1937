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


UNSHOWN = frozenset({"minLength", "maxLength", "pattern", "minItems", "maxItems"})
LARGEST_SHOWN = 1_000_000
"""Nobody who means it asks for more."""


def request_schema(model: type[Request]) -> dict[str, Any]:
    """The schema of an operation's arguments; other arguments are refused."""
    return model.model_json_schema(schema_generator=CompactJsonSchema)


def tool_schema(model: type[Request], is_closed: bool = True) -> dict[str, Any]:
    """The same as tools show it, in fewer tokens: without bounds that go without saying, or that a call is told of.

    `is_closed`: say that other arguments are refused.
    """
    schema = request_schema(model)
    for name, argument in schema["properties"].items():
        schema["properties"][name] = _shortened(argument)
    if not is_closed:
        del schema["additionalProperties"]
    return schema


def _shortened(argument: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in argument.items() if key not in UNSHOWN}
    if shown.get("minimum") in (0, 1):
        del shown["minimum"]
    if shown.get("maximum", 0) > LARGEST_SHOWN:
        del shown["maximum"]
    if "items" in shown:
        shown["items"] = _shortened(shown["items"])
    return shown


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
