"""`mtad audience STREAM`, `mtad audience release STREAM`."""

import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from engine.service import release_brake
from mtad.base.db import Connection
from mtad.base.plot import Line, Panel, svg
from mtad.cli import chart, shell
from mtad.cli.audience_view import audience_view
from mtad.ops.answers.audience import Audience, audience
from mtad.ops.answers.programs import known_stream


class _Shown(typer.core.TyperGroup):
    """A group in which whatever is no command is a stream to show."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own Context
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Shown,
    help="How the audience of a stream breathes; `mtad audience STREAM` is `mtad audience show STREAM`.",
    no_args_is_help=True,
)

StreamArgument = Annotated[str, typer.Argument(metavar="STREAM", help="The stream.")]


@app.command()
def show(
    name: StreamArgument,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
    *,
    days: Annotated[int, typer.Option(min=1, max=730, help="How far back, in days of the stream.")] = 90,
    svg_file: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the plot there.")] = None,
    as_json: shell.JsonOption = False,
) -> None:
    """Sizes by state, now and before; who may come back; what is held, and why."""
    found = shell.ask(config, lambda conn: audience(conn, name, days))
    if svg_file:
        shell.write_text(svg_file, _svg(found))
    shell.show(found, audience_view, as_json=as_json)


@app.command()
def release(
    name: StreamArgument, config: shell.ConfigOption = shell.DEFAULT_CONFIG, *, as_json: shell.JsonOption = False
) -> None:
    """Let go of the brake: the silence up to now is believed, and the next sweep pauses whom it would."""

    async def let_go(conn: Connection) -> int | None:
        await known_stream(conn, name)
        return await release_brake(conn, name, getpass.getuser())

    silent = shell.ask(config, let_go)
    if as_json:
        shell.print_json({"stream": name, "released": silent is not None, "silent": silent or 0})
    elif silent is None:
        shell.out.print(f"{name}: the brake does not hold.", highlight=False)
    else:
        shell.out.print(
            f"{name}: released. The next sweep makes whoever is still silent Inactive; it was {silent:,} people.",
            highlight=False,
        )


def _svg(found: Audience) -> str:
    days = len(found.history) - 1
    begins = found.at - timedelta(seconds=days * found.day)
    times = [day * found.day for day in range(days + 1)]
    lines = [
        Line(band.label, [sizes.get(band.label, 0) for sizes in found.history], band.shade)
        for band in (*chart.STATES, chart.LEFT)
    ]
    form = "%Y-%m-%d" if found.day >= 3600 else "%H:%M:%S"

    def label(seconds: float) -> str:
        return datetime.fromtimestamp(begins.timestamp() + seconds, UTC).astimezone().strftime(form)

    return svg(times, [Panel(f"{found.stream}: audience by state", lines, stacked=True)], label)
