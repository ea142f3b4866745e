"""``swarm bench``: measure, keep the artefact, and make the published page from the artefacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cluster.errors import InvalidRequest
from swarm.bench import record
from swarm.cli.context import Context, Json, emit, err

app = typer.Typer(
    no_args_is_help=True, help="Measure the swarm against a peer in the same run; artefacts stay in HOME."
)


@app.command()
def boot(
    context: typer.Context,
    repeats: Annotated[int, typer.Option(min=1, help="Boots of each kind.")] = 5,
    as_json: Json = False,
) -> None:
    """Time `swarm up` with and without a running Ray, and weigh the roster."""
    from swarm.bench import boot as bench

    _run(context.obj, "boot", lambda progress: bench.run(repeats=repeats, progress=progress), as_json=as_json)


@app.command()
def hub(
    context: typer.Context,
    calculations: Annotated[int, typer.Option(min=10, help="Rounds of every side.")] = 300,
    as_json: Json = False,
) -> None:
    """Time a COMPREHENSIVE through the hub beside the same calls without it and beside bare Ray."""
    from swarm.bench import hub as bench

    here: Context = context.obj
    _run(
        here,
        "hub",
        lambda progress: bench.run(calculations=calculations, settings=here.settings, progress=progress),
        as_json=as_json,
    )


@app.command()
def kernels(
    context: typer.Context,
    room: Annotated[list[str] | None, typer.Option(help="Room to time; may be repeated. Default: all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Time every compiled kernel beside NumPy and the libraries that do the same work, in turns within one run."""
    from swarm.bench import kernels as bench

    unknown = sorted(set(room or ()) - set(bench.ROOMS))
    if unknown:
        raise InvalidRequest(f"--room {unknown[0]} is unknown", f"Known are: {', '.join(bench.ROOMS)}")
    _run(context.obj, "kernels", lambda progress: bench.run(room or bench.ROOMS, progress), as_json=as_json)


@app.command()
def docs(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("docs/benchmarks.md"),
) -> None:
    """Write the page of published figures from the newest artefact of every benchmark."""
    here: Context = context.obj
    records = record.newest(here.home)
    if not records:
        raise InvalidRequest(f"no benchmark artefact lies in {here.home / 'bench'}", "Run `swarm bench hub` first")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(record.page(records))
    emit({"page": str(out)}, Text(f"{out} holds {', '.join(taken.bench for taken in records)}"), as_json=False)


def _run(
    here: Context, name: str, work: Callable[[Callable[[str], None]], Sequence[record.Row]], *, as_json: bool
) -> None:
    console = err()
    if console.is_terminal:
        with console.status(f"bench {name}") as status:
            rows = work(lambda text: status.update(f"bench {name}: {text}"))
    else:
        rows = work(lambda _text: None)
    taken = record.record(name, rows)
    path = record.keep(taken, here.home)
    emit(taken, record.table(taken), as_json=as_json)
    if not as_json:
        console.print(Text(f"kept as {path}", style="dim"))
