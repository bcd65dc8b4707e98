"""`rechain env gc`: remove the environments that no run refers to."""

from __future__ import annotations

import glob
import os

import click

from rechain.cli.shared import workspace

__all__ = ["command"]


@click.command("gc", short_help="Remove the environments that no run refers to.")
@click.option("--older-than", "days", type=click.FloatRange(0), default=1, show_default=True,
              metavar="DAYS", help="Only what is older; 0 takes all that is unused.")  # fmt: skip
@click.option("--dry-run", "dry", is_flag=True, help="Print what would be removed.")
def command(days: float, dry: bool) -> None:
    """Remove the environments that no run folder refers to any more.

    A run that used an environment, or was submitted and will, keeps it, in whatever workspace,
    until its folder is deleted; so does a shell that is open in it. What was removed is built
    again, the same, when it is asked for. So it is with the archives from which nodes of a
    cluster load images; what an engine itself has stays.
    """
    from rechain.environment import locks, store, stored

    experiments = f"{workspace()._paths.root}/experiments"
    roots = map(os.path.dirname, glob.glob(f"{experiments}/*/*/lock.json"))
    cache, others = store.cache_root(), stored.locks_of(roots)
    bytes_of = {one.name: stored.frees(one) for one in stored.all_stored(cache)}
    found = stored.collect(cache, days * 86400, others, dry)
    unpacked = stored.collect_unpacked(cache, days * 86400, found, dry)
    carried = stored.collect_carried(cache, days * 86400, dry)
    word = "would remove" if dry else "removed"
    for one in found:
        size = f"{bytes_of[one.name] / 1e6:.1f} MB"
        click.echo(f"{word} {one.name[:12]}  {size:>10}  {locks.shown(one.lock)}")
    if unpacked:
        click.echo(f"{word} packages of conda  {unpacked / 1e6:.1f} MB")
    if carried:
        click.echo(f"{word} images for other nodes  {carried / 1e6:.1f} MB")
    if not found and not unpacked and not carried:
        young = len(stored.collect(cache, 0, others, dry=True))
        them = "it" if young == 1 else "them"
        age = "a day" if days == 1 else f"{days:g} days"
        more = f": {young} unused, younger than {age} (--older-than 0 removes {them})"
        click.echo(f"nothing to remove{more if young else ''}", err=True)
        return
    total = (unpacked + carried + sum(bytes_of[one.name] for one in found)) / 1e6
    click.echo(f"{'would free' if dry else 'freed'} {total:.1f} MB; uv's cache keeps its wheels")
