"""What `ctx.elicit` asks with: a form as the protocol sends it, and how its answer becomes what the author expects.

A model or dataclass is a form; a plain type, a list of choices, a `Literal` or an `Enum` is a form of one field,
`value`; None is a form without fields: a question to agree to. The protocol has flat forms of texts, numbers, yes and
no, and choices (elicitation, "Requested Schema"; SEP-1330 for choices with titles). How it is sent is not known here.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from mcp.server.elicitation import render_elicitation_schema
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError, WithJsonSchema, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import EnumSchema

__all__ = ["Form", "form_of"]

_DEFS = "#/$defs/"
_PLAIN = (str, int, float, bool)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """A form, and what its answer is read with."""

    schema: Json
    """The `requestedSchema`."""
    read: Callable[[Any], Any]

    def answer(self, content: Mapping[str, Any] | None) -> Any:
        """What the author gets.

        Raises:
            ValueError: the content does not fit the form.
        """
        try:
            return self.read(dict(content or {}))
        except ValidationError as exc:
            raise ValueError("the accepted answer does not fit the question's schema") from exc


def form_of(asked: Any) -> Form:
    """The form of a model, dataclass, type, list of choices, `Literal`, `Enum` or None.

    Raises:
        TypeError: no form can ask for it; the message says what can be asked.
    """
    if asked is None:
        return Form({"type": "object", "properties": {}}, lambda content: {})
    if isinstance(asked, type) and (issubclass(asked, BaseModel) or is_dataclass(asked) or is_typeddict(asked)):
        return _fields_of(asked, getattr(asked, "__annotations__", {}))
    kind = _field_of(asked)
    form = _fields_of(create_model("Answer", value=(kind, ...)), {"value": kind})
    return Form(form.schema, lambda content: form.read(content).value)


def _fields_of(asked: Any, annotations: Mapping[str, Any]) -> Form:
    adapter = TypeAdapter[Any](asked)
    fields = asked.model_fields.items() if issubclass(asked, BaseModel) else ()
    kinds = {info.alias or name: info.annotation for name, info in fields} or annotations
    members = {name: known for name, kind in kinds.items() if (known := _members_by_name(kind))}

    def read(content: Any) -> Any:
        given = {name: _with_members(value, members.get(name, {})) for name, value in content.items()}
        return adapter.validate_python(given)

    # The SDK's function is given what it needs of a model, so that its own rules and its own check hold.
    return Form(render_elicitation_schema(_Rendered(adapter, members)), read)  # type: ignore[arg-type]  # not a class of models


class _Rendered:
    def __init__(self, adapter: TypeAdapter[Any], members: Mapping[str, Mapping[str, Enum]]) -> None:
        self._adapter = adapter
        self._members = members

    def model_json_schema(self, *, schema_generator: type[GenerateJsonSchema]) -> Json:
        """The schema of the form, flat: choices stand in their fields."""

        class WithChoices(schema_generator):  # type: ignore[misc, valid-type]  # the SDK's generator is private
            def enum_schema(self, schema: EnumSchema) -> Json:
                return {"title": schema["cls"].__name__, **_choices(_wire_titles(schema["cls"]))}

        made = self._adapter.json_schema(schema_generator=WithChoices)
        definitions = made.pop("$defs", {})
        fields = made["properties"] = {
            name: _flat(one, definitions) for name, one in made.get("properties", {}).items()
        }
        for name, members in self._members.items():
            if "default" in fields.get(name, {}):
                fields[name]["default"] = _names_of(fields[name]["default"], members)
        return made


def _flat(field: Json, definitions: Mapping[str, Json]) -> Json:
    """A field without references, in the form that the protocol has for choices."""
    if "$ref" in field:
        found = definitions.get(str(field["$ref"]).removeprefix(_DEFS), {})
        field = {**found, **{name: value for name, value in field.items() if name != "$ref"}}
    if "const" in field:
        field = {**{name: value for name, value in field.items() if name != "const"}, "enum": [field["const"]]}
    if isinstance(field.get("items"), dict):
        items = _flat(field["items"], definitions)
        # Several of some choices with titles: `anyOf`, and no type beside it (`TitledMultiSelectEnumSchema`).
        items = {"anyOf": items["oneOf"]} if "oneOf" in items else {k: v for k, v in items.items() if k != "title"}
        field = {**field, "items": items}
    return field


def _field_of(asked: Any) -> Any:
    """The type of the one field."""
    match asked:
        case [list() | tuple() | dict() as choices]:
            return _several(_field_of(choices))
        case dict():
            return _choice(list(asked), [str(title) for title in asked.values()])
        case list() | tuple():
            return _choice(list(asked), None)
    if get_origin(asked) is Literal:
        return _choice(get_args(asked), None)
    if get_origin(asked) is list and len(get_args(asked)) == 1:
        return _several(_field_of(get_args(asked)[0]))
    if asked in _PLAIN or _is_enum(asked) or get_origin(asked) in (Annotated, Union, types.UnionType):
        return asked
    raise TypeError(
        f"elicit cannot ask for {asked!r}: give it a pydantic model, a dataclass, str, int, float, bool, a list of "
        "choices, a Literal, an Enum, list[...] of one of these choices, or None, to have the user agree"
    )


def _choice(values: Sequence[Any], titles: Sequence[str] | None) -> Any:
    """One of these values; on the wire each is a text, because choices are."""
    known = {str(value): value for value in values}
    if not known or len(known) != len(values):
        raise TypeError(f"elicit needs choices, each with a text of its own, not {values!r}")
    schema = _choices(dict(zip(known, titles or known, strict=True)))
    return Annotated[Any, BeforeValidator(lambda given: _chosen(known, given)), WithJsonSchema(schema)]


def _chosen(known: Mapping[str, Any], given: Any) -> Any:
    if not isinstance(given, str) or given not in known:
        raise ValueError("it is none of the choices")
    return known[given]


def _several(kind: Any) -> Any:
    if kind in _PLAIN:
        raise TypeError("elicit can ask for several of some choices, but not for a list of texts or numbers")
    return list[kind]


def _choices(titles: Mapping[str, str]) -> Json:
    """The schema of one choice. With titles only where they say more: clients of older revisions know `enum` only."""
    if all(title.lower() == wire.lower() for wire, title in titles.items()):
        return {"type": "string", "enum": list(titles)}
    return {"type": "string", "oneOf": [{"const": wire, "title": title} for wire, title in titles.items()]}


def _wire_titles(kind: type[Enum]) -> dict[str, str]:
    """Title by what is sent for each member: its value, or its name where the values are no texts."""
    if _members_by_name(kind):
        return {member.name: member.name for member in kind}
    return {str(member.value): member.name.replace("_", " ") for member in kind}


def _members_by_name(kind: Any) -> dict[str, Enum]:
    """The members of an enumeration inside this type whose values are no texts; empty if there is none."""
    if _is_enum(kind):
        is_text = all(isinstance(member.value, str) for member in kind)
        return {} if is_text else {member.name: member for member in kind}
    return {name: member for part in get_args(kind) for name, member in _members_by_name(part).items()}


def _with_members(value: Any, members: Mapping[str, Enum]) -> Any:
    if isinstance(value, list):
        return [_with_members(one, members) for one in value]
    return members.get(value, value) if isinstance(value, str) else value


def _names_of(value: Any, members: Mapping[str, Enum]) -> Any:
    if isinstance(value, list):
        return [_names_of(one, members) for one in value]
    return next((name for name, member in members.items() if member.value == value), value)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)
