"""What the fields of every foreign API's requests have in common: null is left out, and so is what asks for nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def text_alone(value: Any) -> Any:
    """What a message's content is read through: a part that is no text is refused by its own name."""
    parts = value if isinstance(value, list) else []
    others = [part["type"] for part in parts if isinstance(part, dict) and part.get("type", "text") != "text"]
    if others:
        other = repr(others[0])[:40]
        raise PydanticCustomError(
            "not_text", "a part of type {other} is not supported here: send text alone", {"other": other}
        )
    return value


class Fields(BaseModel):
    """``neutral``: fields that are not supported, and the values that ask for nothing: clients that send them work."""

    model_config = ConfigDict(extra="forbid")
    neutral: ClassVar[dict[str, list[Any]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: one for name, one in value.items() if one is not None and not cls._asks_nothing(name, one)}

    @classmethod
    def _asks_nothing(cls, name: str, value: Any) -> bool:
        return any(type(one) is type(value) and one == value for one in cls.neutral.get(name, []))
