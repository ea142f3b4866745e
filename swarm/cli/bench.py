"""``swarm bench``: measure, keep the artefact, and make the published page from the artefacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cluster import machine
from cluster.errors import InvalidRequest
from swarm.bench import plots, record
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
def lanes(
    context: typer.Context,
    flow: Annotated[int, typer.Option(min=1, help="Messages before the last measurement.")] = 10_000_000,
    as_json: Json = False,
) -> None:
    """Time a question over shared memory beside iceoryx2 and a Ray call, fresh and after millions of messages."""
    from swarm.bench import lanes as bench

    _run(context.obj, "lanes", lambda progress: bench.run(progress, flow=flow), as_json=as_json)


@app.command()
def fast(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=20, help="Questions of every kind.")] = 2000,
    as_json: Json = False,
) -> None:
    """Time five agents asked over lanes, beside Ray calls with the same numbers and the hub."""
    from swarm.bench import fast as bench

    here: Context = context.obj
    _run(
        here,
        "fast",
        lambda progress: bench.run(rounds=rounds, settings=here.settings, progress=progress),
        as_json=as_json,
    )


@app.command()
def gate(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=100, help="Orders of every way to a verdict.")] = 20_000,
    as_json: Json = False,
) -> None:
    """Time a verdict of the pre-trade gate in a kernel, over a lane, in batches and through Ray; journal and kill."""
    from swarm.bench import gate as bench

    here: Context = context.obj
    _run(
        here,
        "gate",
        lambda progress: bench.run(rounds=rounds, settings=here.settings, progress=progress),
        as_json=as_json,
    )


@app.command()
def ticks(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=20, help="Alerts of every kind.")] = 500,
    as_json: Json = False,
) -> None:
    """Time a tick in every room's loop, an alert through real agents, and questions while ticks flow."""
    from swarm.bench import ticks as bench

    here: Context = context.obj
    _run(
        here,
        "ticks",
        lambda progress: bench.run(rounds=rounds, settings=here.settings, progress=progress),
        as_json=as_json,
    )


@app.command()
def discrete(context: typer.Context, as_json: Json = False) -> None:
    """Time annealing and its simulated quantum kin beside enumeration, tabu search and a quadratic program."""
    from swarm.bench import discrete as bench

    _run(context.obj, "discrete", bench.run, as_json=as_json)


@app.command()
def accuracy(
    context: typer.Context,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after the run during which this time has passed.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.002, max=1, help="Share of the replications; below 1 is a trial, not to publish.")
    ] = 1.0,
    docs: Annotated[
        Path | None, typer.Option(help="Folder to write accuracy.md, .csv.gz and .svg to, of what has been run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure every sampling method against plain Monte Carlo over the whole panel.

    The panel takes about two hours of one core. Every run of it is kept in HOME as it ends, so a panel that was stopped
    goes on where it stopped, and several processes may share it.
    """
    from swarm.bench.accuracy import gains, page, run

    here: Context = context.obj
    folder = here.home / "bench" / ("accuracy" if share == 1 else f"accuracy-{share:g}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True) as shown:
        task = shown.add_task("accuracy", total=None)
        run.run(
            folder,
            share=share,
            minutes=minutes,
            progress=lambda done, total, name: shown.update(task, completed=done, total=total, description=name),
        )
        shown.update(task, description="intervals of the gains", total=None)
        cells = list(gains.cells(folder))
        missing = gains.missing(folder)
        written = (
            page.write(
                cells, missing, f"{record.machine_line(machine.describe())}, page of commit {record.commit()}.", docs
            )
            if docs
            else []
        )
    summary = page.summary(cells, missing)
    emit(
        {**summary, "outcomes": str(folder), "pages": [str(path) for path in written]},
        Text.assemble(*page.summary_lines(summary), f"outcomes in {folder}"),
        as_json=as_json,
    )
    for path in written:
        err().print(Text(f"wrote {path}", style="dim"))


@app.command()
def docs(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("docs/benchmarks.md"),
    readme: Annotated[
        Path | None, typer.Option(help="Page whose table of goals to replace as well; it has marks for it.")
    ] = None,
) -> None:
    """Write the page of published figures from the newest artefact of every benchmark."""
    here: Context = context.obj
    records = record.newest(here.home)
    if not records:
        raise InvalidRequest(f"no benchmark artefact lies in {here.home / 'bench'}", "Run `swarm bench hub` first")
    goals = record.into(readme.read_text(), record.summary(records)) if readme is not None else ""
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {}
    for taken in records:
        if taken.bench == "kernels" and plots.curves(taken):
            figures[taken.bench] = "kernels.svg"
            plots.growth(taken, out.parent / figures[taken.bench])
    out.write_text(record.page(records, figures))
    if readme is not None:
        readme.write_text(goals)
    emit({"page": str(out)}, Text(f"{out} holds {', '.join(taken.bench for taken in records)}"), as_json=False)


@app.command()
def consensus(
    context: typer.Context,
    voters: Annotated[list[int] | None, typer.Option(help="Committee sizes; else 4, 7 and 10.")] = None,
    decisions: Annotated[int, typer.Option(min=10, help="Decisions timed for each size.")] = 200,
    as_json: Json = False,
) -> None:
    """Time decisions of the committee through real replicas, one at a time, batched, and over a leader's death."""
    from swarm.bench import consensus as bench

    here: Context = context.obj
    _run(
        here,
        "consensus",
        lambda progress: bench.run(
            voters=bench.sizes(voters or ()), count=decisions, settings=here.settings, progress=progress
        ),
        as_json=as_json,
    )


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
