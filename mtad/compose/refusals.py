"""What a program is refused for that its file alone does not show: attributes, links, other programs, people."""

from pathlib import Path

from engine.programs import Definition, first_cycle, links_asked
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.compose import store
from mtad.compose.folder import Draft

_TYPES: dict[str, tuple[type, ...]] = {"text": (str,), "date": (str,), "number": (int, float), "bool": (bool,)}


def require_known_audience(definition: Definition, types: dict[str, str]) -> None:
    """An attribute that nobody has, or of another type, would silently mean nobody."""
    for name, values in definition.audience.attributes.items():
        if name not in types:
            raise InputError(f"audience: no contact has an attribute {name!r}")
        for value in values:
            fits = isinstance(value, _TYPES[types[name]]) and isinstance(value, bool) == (types[name] == "bool")
            if not fits:
                raise InputError(f"audience: {name} holds values of type {types[name]}, {value!r} is none")


def require_date(definition: Definition, types: dict[str, str]) -> None:
    if definition.yearly and types.get(definition.yearly.on) != "date":
        kind = types.get(definition.yearly.on)
        what = f"holds values of type {kind}, not dates" if kind else "is an attribute that no contact has"
        raise InputError(f"yearly.on: {definition.yearly.on} {what}")


def require_links(path: Path, definition: Definition, drafts: dict[str, Draft]) -> None:
    """A condition on a link that a mail has not got would never hold."""
    for key, condition, about in links_asked(definition.nodes):
        for mail in about:
            positions = {position for position, _ in drafts[mail].all_links if position}
            if missing := sorted(condition.links - positions):
                raise InputError(
                    f"{path}: step {key}: if: there is no link {missing[0]} in {mail}, which has {len(positions)}"
                )


def require_hand_overs(path: Path, definition: Definition, known: dict[str, Definition]) -> None:
    """Somebody takes over whom this program hands over, and nobody goes round for ever."""
    leads_to = {name: _targets(other) for name, other in known.items()} | {definition.name: _targets(definition)}
    if cycle := first_cycle(definition.name, leads_to):
        raise InputError(f"{path}: then, instead: {' → '.join(cycle)} goes round for ever")
    for key, name in (("then", definition.then), ("instead.inactive", definition.instead)):
        if name and name not in known:
            raise InputError(f"{path}: {key}: there is no program {name!r} that is not over; apply it first")
    if definition.instead:
        target = known[definition.instead]
        if target.kind != "reactivation" or target.stream != definition.stream:
            raise InputError(
                f"{path}: instead.inactive: {target.name} is a {target.kind} on {target.stream};"
                f" who is Inactive on {definition.stream} can only enter a reactivation on it"
            )
    if definition.then and known[definition.then].enrol == "current":
        raise InputError(
            f"{path}: then: {definition.then} takes nobody in once it has started;"
            ' give it enrol = "handed_over" or "current_and_future"'
        )


def _targets(definition: Definition) -> list[str]:
    return [name for name in (definition.then, definition.instead) if name]


def require_same_sort(path: Path, known: store.LockedProgram, definition: Definition, stream_id: int) -> None:
    """What of a program that was started stands."""
    if known.status in ("done", "cancelled"):
        raise InputError(f"{path}: program {definition.name!r} is {known.status}; give this one another name")
    before = Definition.from_json(known.definition)
    for key, is_same in (
        ("kind", before.kind == definition.kind),
        ("stream", known.stream_id == stream_id),
        ("yearly", bool(before.yearly) == bool(definition.yearly)),
    ):
        if not is_same:
            raise InputError(f"{path}: {key}: program {definition.name!r} is {known.status} and keeps its {key}")


async def require_nobody_strands(conn: Connection, path: Path, program_id: int, definition: Definition) -> None:
    """Everybody on the way stands at a node that the new version has too."""
    standing = await store.standing(conn, program_id)
    gone = [f"{node} ({number:,})" for node, number in standing.items() if node not in definition.nodes]
    if gone:
        raise InputError(
            f"{path}: --move would strand people at {', '.join(gone)}: keep these steps, or apply without --move"
        )
