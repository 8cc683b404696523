"""Path templates as OpenAPI spells them: with a name for each wildcard, and with no `*`, `**` or `=`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shop_services.gateway.templates import Segment, Template, Wildcard


@dataclass(frozen=True, slots=True)
class PathParameter:
    """A wildcard. `variable` is the index of the template's variable that captures it, if any.

    `whole`: it is all that the variable captures. `rest`: it is `**`.
    """

    name: str
    variable: int | None
    whole: bool
    rest: bool


class Paths:
    """OpenAPI's paths for a set of templates.

    "Templated paths with the same hierarchy but different templated names MUST NOT exist" (OpenAPI 3.1, Paths Object),
    so the first template of a shape names the parameters of all that follow: `/v1/users/{user_id}` and
    `/v1/users/{user.id}` are one path.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[Segment, ...], str], list[str]] = {}

    def of(self, template: Template) -> tuple[str, list[PathParameter]]:
        """The path, and its parameters from left to right."""
        parameters = _parameters(template)
        names = self._known.setdefault((template.segments, template.verb), [each.name for each in parameters])
        left = iter(names)
        segments = [f"{{{next(left)}}}" if isinstance(segment, Wildcard) else segment for segment in template.segments]
        path = "/" + "/".join(segments) + (f":{template.verb}" if template.verb else "")
        return path, [replace(each, name=name) for name, each in zip(names, parameters, strict=True)]


def _parameters(template: Template) -> list[PathParameter]:
    result: list[PathParameter] = []
    for position, segment in enumerate(template.segments):
        if not isinstance(segment, Wildcard):
            continue
        for index, variable in enumerate(template.variables):
            if variable.start <= position and (variable.stop is None or position < variable.stop):
                inside = template.segments[variable.start : variable.stop]
                wildcards = [offset for offset, each in enumerate(inside) if isinstance(each, Wildcard)]
                number = wildcards.index(position - variable.start) + 1
                name = variable.field_path if len(wildcards) == 1 else f"{variable.field_path}.{number}"
                result.append(PathParameter(name, index, len(inside) == 1, segment is Wildcard.REST))
                break
        else:
            result.append(PathParameter(f"segment{position + 1}", None, False, segment is Wildcard.REST))
    return result
