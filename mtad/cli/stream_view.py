"""A stream, its versions, and what a change would do, as an operator reads them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.policy import Policy, StreamDefinition
from engine.revision import Effect
from mtad.cli import shell
from mtad.cli.answers_view import plain
from mtad.compose.apply import Plan
from mtad.compose.store import StreamVersion
from mtad.ops.answers.times import local, span

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def stream_words(definition: StreamDefinition) -> dict[str, str]:
    """Key by key what a file would say, the defaults too."""
    words = {key: str(value) for key, value in definition.to_json().items() if key != "policy"}
    return {key: text or "-" for key, text in words.items()} | policy_words(definition.policy)


def policy_words(policy: Policy) -> dict[str, str]:
    """The keys of [policy] with values for people."""
    words: dict[str, str] = {}
    for field in msgspec.structs.fields(Policy):
        value = getattr(policy, field.name)
        if field.name == "slots":
            words |= {f"policy.{key}": text for key, text in _slots(value, policy.day).items()}
        else:
            words[f"policy.{field.name}"] = _word(field.name, value, policy.day)
    return words


def _word(key: str, value: Any, day: float) -> str:  # noqa: ANN401 - of any field
    match key:
        case "window":
            text = span(value, day)
        case "points_last":
            text = span(value, day) if value else "as long as the round"
        case "settle" | "day":
            text = span(value)
        case "cool_downs":
            text = ", then ".join(span(seconds, day) for seconds in value)
        case "missing_limit":
            text = f"{value * 100:g}% of a program's mails"
        case "events":
            text = "; ".join(_fields(rule) for rule in value) or "none"
        case "pages":
            text = ", ".join(value) or "none"
        case "brake":
            text = f"{value.share:.0%} in a day, never fewer than {value.least:,}"
        case "points" | "on_engaged":
            text = _fields(value)
        case _:
            text = str(value) if value != "" else "-"
    return text


def _fields(struct: msgspec.Struct) -> str:
    """What of a table is not empty."""
    return ", ".join(
        f"{name} {inner}" for name, inner in msgspec.structs.asdict(struct).items() if inner not in ("", {})
    )


def _slots(slots: Any, day: float) -> Mapping[str, str]:  # noqa: ANN401 - engine.slots is behind its door
    caps = [(cap, "this stream") for cap in slots.caps] + [(cap, "all streams") for cap in slots.caps_all]
    days = sorted(slots.days)
    return {
        "caps": "; ".join(f"{cap.most} in {span(cap.window, day)}, {whose}" for cap, whose in caps) or "none",
        "quiet_hours": f"{slots.quiet.start:%H:%M}-{slots.quiet.end:%H:%M}" if slots.quiet else "none",
        "sending_days": "every day" if len(days) == 7 else ", ".join(_WEEKDAYS[number] for number in days),
    }


def differences(old: StreamDefinition, new: StreamDefinition) -> list[tuple[str, str, str]]:
    """(key, before, after) of whatever reads differently."""
    before, after = stream_words(old), stream_words(new)
    return [(key, before.get(key, "-"), text) for key, text in after.items() if before.get(key, "-") != text]


def stream_view(name: str, versions: list[StreamVersion]) -> RenderableType:
    """The newest version with all that it says."""
    newest = versions[0]
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, text in stream_words(newest.definition).items():
        table.add_row(plain(key, "dim"), plain(text))
    more = f"; `mtad stream history {name}` tells of the {len(versions) - 1} before" if len(versions) > 1 else ""
    return Group(
        Text.assemble(plain(name, "bold"), f"  version {newest.version}"),
        table,
        plain(f"made {local(newest.made)} by {newest.made_by}{more}", "dim"),
    )


def history_view(name: str, versions: list[StreamVersion]) -> RenderableType:
    """Who changed what when, the newest first."""
    parts: list[RenderableType] = []
    for newer, older in zip(versions, [*versions[1:], None], strict=True):
        parts.append(
            Text.assemble(
                plain(name, "bold"), f"  version {newer.version}, {local(newer.made)} by ", plain(newer.made_by)
            )
        )
        parts.append(_changes(differences(older.definition, newer.definition)) if older else Text("  created"))
    return Group(*parts)


def plan_view(plan: Plan) -> RenderableType:
    """What would be changed, and whom it concerns."""
    title = Text.assemble(plain(plan.name, "bold"), f"  version {plan.version}, would be {plan.did}")
    if plan.did == "unchanged":
        title = Text.assemble(plain(plan.name, "bold"), f"  version {plan.version}, unchanged")
    parts: list[RenderableType] = [title]
    if plan.did == "changed" and plan.old:
        parts.append(_changes(differences(plan.old, plan.new)))
        parts += [Text(line) for line in effect_lines(plan.effect)]
    return Group(*parts)


def effect_lines(effect: Effect) -> list[str]:
    """A sentence for each kind of people that a change concerns."""
    said = [
        (effect.inactive, "would become Inactive at the next sweep."),
        (effect.at_risk, "would become Inactive if they do not answer the next window."),
        (effect.spared, "would have become Inactive by then, and do not."),
        (effect.returning, "would have cooled down and return to the next reactivation."),
        (effect.engaged, "would become Engaged with their next sign."),
        (effect.forgotten, "would be erased at the next sweep, and nothing brings that back."),
    ]
    lines = [f"{shell.count(number, 'contact')} {what}" for number, what in said if number]
    if effect.inactive > effect.brake:
        lines.append(f"The brake lets {effect.brake:,} a day become Inactive, so the sweep would stop.")
    return lines or ["Nobody's state is concerned by it now."]


def _changes(changes: Iterable[tuple[str, str, str]]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    for key, before, after in changes:
        table.add_row(plain(f"  {key}", "dim"), plain(before), "→", plain(after))
    return table
