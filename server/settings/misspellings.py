"""Finds what Jinja would drop or overlook without a word: names that nothing in a Job template's family has.

A template and all that it extends, includes and imports by name are its family. A template that chooses another one at
run time is judged only as far as it can be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.nodes import Node, Template

_SPECIAL = {"super", "self", "loop", "caller", "varargs", "kwargs"}
_TAGS: tuple[str, ...] = ("block", "extends", "if", "elif", "else", "for", "set", "include", "import", "macro", "with")
_TAGS += tuple(f"end{tag}" for tag in ("block", "if", "for", "set", "macro", "with"))


@dataclass(frozen=True, slots=True)
class Oversight:
    """What is wrong at a line of a template."""

    template: str
    line: int
    message: str


@dataclass(slots=True)
class _Family:
    """The parsed templates, by name."""

    members: dict[str, Template] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    """What each member extends, where that is fixed."""


def oversights(
    name: str, environment: Environment, text: Callable[[str], str | None], parameters: Collection[str]
) -> list[Oversight]:
    """Return what is overlooked in the family of the template ``name``, in the order of its lines.

    ``text`` returns the text of a template, or None if there is none. Raises what Jinja raises for a bad template.
    """
    family = _Family()
    _gather(name, environment, text, family)
    found = [one for member in family.members for one in _of_blocks(member, family)]
    found += _undefined(family, {*parameters, *environment.globals, *_SPECIAL})
    return sorted(found, key=lambda one: (one.template != name, one.template, one.line))


def advised(message: str, environment: Environment) -> str:
    """Return a message of Jinja with what may have been meant instead of the unknown filter, test or tag in it."""
    known = {"filter": environment.filters, "test": environment.tests, "unknown tag": _TAGS}
    for kind, names in known.items():
        if found := re.search(rf"{kind}(?: named)? '([^']+)'", message):
            return message.removesuffix(".").removesuffix(" found") + meant(found[1], names)
    return message


def meant(name: str, known: Collection[str], also: str = "") -> str:
    """Return the end of a sentence that says what may have been meant instead of ``name``; else ``also``."""
    import difflib  # here, as it is needed only where something is wrong

    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else also


def _gather(name: str, environment: Environment, text: Callable[[str], str | None], family: _Family) -> None:
    from jinja2 import nodes

    source = text(name)
    if source is None or name in family.members:
        return
    parsed = family.members[name] = environment.parse(source, name, name)
    uses = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
    for used in [one for kind in uses for one in parsed.find_all(kind)]:
        chosen = getattr(used, "template", None)
        if isinstance(chosen, nodes.Const) and isinstance(chosen.value, str):
            if isinstance(used, nodes.Extends) and used in parsed.body:
                family.parents[name] = chosen.value
            _gather(chosen.value, environment, text, family)


def _of_blocks(name: str, family: _Family) -> Iterator[Oversight]:
    """What a template says that no template which it extends has a place for."""
    from jinja2 import nodes

    above: set[str] = set()
    seen, parent = {name}, family.parents.get(name)
    if parent is None:
        return
    while parent is not None:
        if parent in seen or parent not in family.members:
            return  # rendering says what is wrong
        seen.add(parent)
        above |= {block.name for block in family.members[parent].find_all(nodes.Block)}
        if parent not in family.parents and family.members[parent].find(nodes.Extends):
            return
        parent = family.parents.get(parent)
    there = f"; the blocks there are {', '.join(sorted(above)) or 'none'}"
    base = family.parents[name]
    for node in _outside(family.members[name].body):
        if isinstance(node, nodes.Block):
            if node.name not in above:
                message = f'"{base}" has no block {node.name}, which is lost{meant(node.name, above, there)}'
                yield Oversight(name, node.lineno, message)
        elif isinstance(node, nodes.Output) and (line := _line_of_text(node)):
            yield Oversight(name, line, f'what stands in no block is lost, as this extends "{base}"{there}')


def _outside(body: list[Node]) -> Iterator[Node]:
    """The nodes in no block, and the outermost blocks."""
    from jinja2 import nodes

    for node in body:
        yield node
        if isinstance(node, (nodes.If, nodes.For, nodes.With, nodes.Scope)):
            yield from _outside([*node.body, *getattr(node, "elif_", []), *getattr(node, "else_", [])])


def _line_of_text(output: Node) -> int:
    """The line of what an output prints; 0 if that is nothing but blanks and comments of YAML."""
    from jinja2 import nodes

    for part in output.iter_child_nodes():
        if not isinstance(part, nodes.TemplateData):
            return part.lineno
        for number, line in enumerate(part.data.splitlines()):
            if line.strip() and not line.lstrip().startswith("#"):
                return part.lineno + number
    return 0


def _undefined(family: _Family, known: Collection[str]) -> Iterator[Oversight]:
    """Names that nothing defines, also in branches that are not taken, unless a template asks whether they are."""
    from jinja2 import nodes

    members = family.members.values()
    made = {one.name for each in members for one in each.find_all(nodes.Macro)}
    made |= {one.target for each in members for one in each.find_all(nodes.Import)}
    for each in members:
        for imported in each.find_all(nodes.FromImport):
            made |= {one if isinstance(one, str) else one[1] for one in imported.names}
        made |= {one.name for one in each.find_all(nodes.Name) if one.ctx != "load"}
        asked = (*each.find_all(nodes.Test), *each.find_all(nodes.Filter))
        made |= {
            one.node.name
            for one in asked
            if one.name in {"defined", "undefined", "default", "d"} and isinstance(one.node, nodes.Name)
        }
    for name, each in family.members.items():
        for used in each.find_all(nodes.Name):
            if used.ctx == "load" and used.name not in made and used.name not in known:
                yield Oversight(name, used.lineno, f"'{used.name}' is undefined{meant(used.name, {*known, *made})}")
