"""The application: commands, and what errors look like."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any, TextIO

import typer
from rich.markup import escape
from typer.core import TyperGroup

from kernreg.cli import baseline, doctor, explain, fit, gram, predict, theory
from kernreg.cli.console import as_option, stderr
from kernreg.exceptions import DistributedError, KernregError

__all__ = ["app", "main"]


class _Group(TyperGroup):
    """Turns expected errors into one line and exit code 2, and warnings into one line each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept ``--debug`` anywhere on the line."""
        rest = [arg for arg in args if arg != "--debug"]
        debug = ["--debug"] if len(rest) < len(args) else []
        return super().parse_args(ctx, [*debug, *rest])

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        with warnings.catch_warnings():
            warnings.showwarning = _one_line
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                raise
            except KeyboardInterrupt as stop:
                text = escape(str(stop) or "nothing was written.")
                stderr.print(f"[bold red]interrupted:[/] {text}")
                raise typer.Exit(130) from None
            except (KernregError, OSError) as error:
                _to_other_processes(error)
                text = as_option(" ".join(str(error).split()))
                stderr.print(f"[bold red]error:[/] {escape(text)}")
            except MemoryError as error:
                _to_other_processes(error)
                stderr.print(f"[bold red]error:[/] Out of memory: {escape(str(error))}")
            raise typer.Exit(2)


def _to_other_processes(error: Exception) -> None:
    """Tell the other processes of a job; only the first prints, unless it may be lost."""
    if "kernreg.distributed" not in sys.modules:  # no job was joined
        return
    from kernreg import distributed

    distributed.report(error)
    stderr.quiet = distributed.rank() > 0 and not isinstance(error, DistributedError)


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = as_option(" ".join(str(message).split()))
    stderr.print(f"[yellow]warning:[/] {escape(text)}")


app = typer.Typer(
    cls=_Group,
    help="Predictions from infinitely wide neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from kernreg import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command("baseline")(baseline.baseline)
app.command("fit")(fit.fit)
app.command("predict")(predict.predict)
app.command("gram")(gram.gram)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)
app.add_typer(theory.app, name="theory")


def main() -> None:
    """Run the command line with the arguments of the process."""
    app(prog_name="kernreg")
