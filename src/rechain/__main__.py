"""`python -m rechain`: the command `rechain`."""

from __future__ import annotations

from rechain.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
