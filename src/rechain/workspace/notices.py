"""What v1's notebooks show and switch: plain text here."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.workspace.run import Run

__all__ = ["RunDetails", "set_diagnostics_collection"]


class RunDetails:
    """A run's state, for people; v1 has a widget of this name.

    Args:
        run_instance: the run.
    """

    def __init__(self, run_instance: Run) -> None:
        self.run_instance = run_instance

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Print what the run is and how it stands; `wait_for_completion` follows it.

        Args:
            render_lib: not used.
            widget_settings: not used.
        """
        run = self.run_instance
        print(f"{run.display_name}: {run.get_status()}")
        print(f"run folder: {run.folder}")
        for name, value in run.get_metrics().items():
            last = value[-1] if isinstance(value, list) and value else value
            print(f"  {name}: {last}")

    def get_widget_data(self, widget_settings: object = None) -> dict[str, object]:
        """Return the run's details, which v1's widget showed."""
        return dict(self.run_instance.get_details())


def set_diagnostics_collection(
    send_diagnostics: bool = True, verbosity: int = 20, reason: str = ""
) -> None:
    """Say that nothing is collected; nothing ever is.

    Args:
        send_diagnostics: not used.
        verbosity: not used.
        reason: not used.
    """
    print("Rechain collects no diagnostics and sends none; this call changes nothing.")
