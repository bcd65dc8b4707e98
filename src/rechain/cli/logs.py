"""`rechain logs`: what a run printed."""

from __future__ import annotations

import click

from rechain.cli.shared import RUN, Look, find_run, write

__all__ = ["command"]


@click.command("logs", short_help="Print a run's output.")
@RUN
@click.option("-f", "--follow", "live", is_flag=True, help="Go on until the run has ended.")
@click.option("--rank", "ranks", multiple=True, type=click.IntRange(0), metavar="N",
              help="Of this rank, not of rank 0; repeatable.")  # fmt: skip
@click.option("--all-ranks", is_flag=True, help="Of all ranks, each line with its rank.")
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="Of this attempt, not of the last."
)
@click.option("--prepare", is_flag=True, help="What building the environment said.")
def command(
    run: str,
    live: bool,
    ranks: tuple[int, ...],
    all_ranks: bool,
    attempt: int | None,
    prepare: bool,
) -> None:
    """Print what RUN, the newest by default, wrote to stdout and stderr.

    Ctrl-C leaves the run alone.
    """
    from rechain.exceptions import UserErrorException
    from rechain.record.follow import follow, tails_of

    found = find_run(run)
    if live and (attempt is not None or prepare):
        raise click.UsageError("--follow shows all attempts, preparing included, as they come")
    distribution = found._job["distribution"]
    last = distribution["nodes"] * distribution["processes_per_node"] - 1
    wanted = tuple(range(last + 1)) if all_ranks else tuple(sorted(set(ranks))) or (0,)
    if wanted[-1] > last:
        there = f"0 to {last}" if last else "0"
        raise UserErrorException(f"the run has no rank {wanted[-1]}, only {there}")
    if live:
        descriptors = {"prepare": 2, "queued": 2, "out": 1, "err": 2}
        try:
            look = Look(found, "still trying; Ctrl-C leaves it")
            for stream, chunk in follow(found._paths, look, ranks=wanted):
                if stream in descriptors:
                    write(descriptors[stream], chunk)
        except KeyboardInterrupt:
            click.echo("\nthe run goes on", err=True)
        return
    numbers = found._paths.numbers()
    if not numbers:
        click.echo("the run has not started", err=True)
        return
    if attempt is not None and attempt not in numbers:
        there = f"1 to {numbers[-1]}" if numbers[-1] > 1 else "1"
        raise UserErrorException(f"the run has no attempt {attempt}, only {there}")
    paths = found._paths.attempt(attempt or numbers[-1])
    if prepare:
        _copy(paths.prepare_log)
        _copy(paths.image_log)
    else:
        for rank in wanted:
            for stream, tail in tails_of(paths, rank, tagged=len(wanted) > 1):
                for chunk in tail.read(whole=True):
                    write(2 if stream == "err" else 1, chunk)


def _copy(path: str) -> None:
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 16):
                write(1, chunk)
    except FileNotFoundError:
        return
