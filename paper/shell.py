"""Papermill's engine for the book: the cells run in this process.

A kernel would start Python and import everything once more, which takes longer than many a
notebook. What a cell gives is written down as a kernel would. A cell must not write to standard
error, where warnings and panics go: a page would show it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import TextIOBase
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines
from traitlets import List, Type
from traitlets.config import Config

from chameleon_usage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbformat import NotebookNode

HERE = "here"


class Shown(DisplayPublisher):
    """Keeps what a cell displays."""

    def publish(
        self,
        data: Any,  # noqa: ANN401
        metadata: Any = None,  # noqa: ANN401
        source: Any = None,  # noqa: ANN401, ARG002
        **_: object,
    ) -> None:
        """Add it to the outputs of the cell."""
        self.shell.given.append(new_output("display_data", data=data, metadata=metadata or {}))


class Result(DisplayHook):
    """Keeps the value of a cell's last expression."""

    shell: Any

    def write_output_prompt(self) -> None:
        """Write none."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:  # noqa: ANN401
        """Add it to the outputs of the cell."""
        about = {"metadata": md_dict or {}, "execution_count": self.prompt_count}
        self.shell.given.append(new_output("execute_result", data=format_dict, **about))


class Shell(InteractiveShell):
    """Runs cells; `given` are the outputs of the one that runs."""

    displayhook_class = Type(Result)
    display_pub_class = Type(Shown)
    given: Any = List()

    def _showtraceback(self, etype: type[BaseException], evalue: object, stb: list[str]) -> None:
        told = {"ename": etype.__name__, "evalue": str(evalue), "traceback": stb}
        self.given.append(new_output("error", **told))


class Printed(TextIOBase):
    """Standard output of a cell."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def write(self, text: str) -> int:
        """Add it to the outputs of the cell, behind what was printed just before."""
        given = self.shell.given
        if given and given[-1].output_type == "stream":
            given[-1].text += text
        elif text:
            given.append(new_output("stream", name="stdout", text=text))
        return len(text)


@contextmanager
def shell() -> Iterator[Shell]:
    """Give a shell in which nothing has run yet, and which leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        made: Any = Shell.instance(
            profile_dir=ProfileDir.create_profile_dir(folder),
            config=Config({"HistoryManager": {"enabled": False}}),
        )
        try:
            yield made
        finally:
            made.restore_sys_module_state()
            Shell.clear_instance()


@contextmanager
def standard_error() -> Iterator[list[str]]:
    """Keep what Python, or a library below it, writes to standard error; it is told at the end."""
    told: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as kept:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            with redirect_stderr(kept):
                yield told
        finally:
            kept.flush()
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            told.append(kept.read())


class Here(Engine):  # type: ignore[misc]
    """Runs the cells of a notebook in this process."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **_: Any) -> None:  # noqa: ANN401, ARG003
        """Run cell after cell, up to one that fails.

        Raises:
            UsageError: a cell wrote to standard error.
        """
        with shell() as here:
            for number, cell in enumerate(nb_man.nb.cells):
                if cell.cell_type == "code" and not run_cell(here, number, cell):
                    return


def run_cell(here: Shell, number: int, cell: NotebookNode) -> bool:
    """Run a cell and keep its outputs; whether it ran to its end.

    Raises:
        UsageError: it wrote to standard error.
    """
    cell.execution_count = here.execution_count
    here.given = []
    run: Any = here.run_cell
    with standard_error() as told, redirect_stdout(Printed(here)):
        done = run(cell.source, store_history=True)
    cell.outputs = here.given
    if done.success and told[0]:
        raise UsageError(f"cell {number} wrote to standard error\n{cell.source}\n\n{told[0]}")
    sys.stderr.write(told[0])
    return bool(done.success)


papermill_engines.register(HERE, Here)
