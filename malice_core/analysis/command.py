"""What the command lines of the tools share: options, events, threads, and the way a run begins and ends."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import malice_core
from malice_core import flags, processors
from malice_core.cancelling import Cancel
from malice_core.cli import Parser
from malice_core.embed import add_talking, run_engine
from malice_core.reporting import Reporter

if TYPE_CHECKING:
    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.result import Outputs
    from malice_core.analysis.sampling import Sample
    from malice_core.grid import Window

T = TypeVar("T")
CANCELLED = "cancelled; nothing was written"
#: Random choices are made by this seed unless another is given.
SEED = 1

# The engine's libraries take half a second to load, in which a signal must already end in exit code 3: they are
# imported when a run begins.


def parser(tool: str, description: str, *, output: str = "FILE.tif", inputs: Sequence[str] = ("input",)) -> Parser:
    """A command line with the options that all tools have; ``docs/tools.md`` explains them at length.

    Args:
        tool: name of the module.
        description: what it does.
        output: how the output's name ends, for people.
        inputs: options that name embeddings.
    """
    p = Parser(prog=f"python -m malice_core.{tool}", description=description)
    g = p.add_argument_group("files")
    for name in inputs:
        g.add_argument(f"--{name}", type=path, required=True, metavar="FILE", help="an embedding, of malice_core.embed")
    g.add_argument("--output", type=path, required=True, metavar=output, help="what to write")
    g.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    g = add_talking(p)
    g.add_argument("--memory", default="2GB", metavar="SIZE", help="memory to stay under, default 2GB")
    g.add_argument("--threads", type=flags.count, metavar="N", help="processor threads (default: all)")
    return p


def add_seed(p: argparse.ArgumentParser) -> None:
    """``--seed``, of tools with chance in them."""
    p.add_argument("--seed", type=flags.whole(0), default=SEED, metavar="N", help=f"of what is random, default {SEED}")


def path(text: str) -> Path:
    """A path that is not empty."""
    return Path(flags.path(text))


def main(
    arguments: Sequence[str] | None,
    make_parser: Callable[[], argparse.ArgumentParser],
    run: Callable[[argparse.Namespace, Run], None],
) -> int:
    """Runs a tool; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""

    def start(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
        execute(options, run, reporter, cancel)

    return run_engine(arguments, make_parser, start, CANCELLED)


def execute(
    options: argparse.Namespace, run: Callable[[argparse.Namespace, Run], None], reporter: Reporter, cancel: Cancel
) -> None:
    """Runs a tool with parsed options.

    Raises:
        MaliceError: whatever went wrong, in one line.
    """
    from threadpoolctl import threadpool_limits

    from malice_core.blocks import environment

    threads = options.threads or processors.count()
    # Cells are worked on side by side. A product of matrices that is split among threads may differ in its last bits.
    with environment(), threadpool_limits(1, "blas"):
        run(options, Run(reporter, cancel, flags.size(options.memory), threads, time.monotonic()))


@dataclass
class Run:
    """One run of a tool.

    Attributes:
        memory: bytes to stay under.
        threads: to be used.
        begun: when, by the monotonic clock.
    """

    reporter: Reporter
    cancel: Cancel
    memory: int
    threads: int
    begun: float

    def check(self) -> None:
        """Raises:
        Cancelled: if the run was stopped.
        """
        self.cancel.check()

    def over(
        self,
        embeddings: Sequence[Embedding],
        work: Callable[..., T],
        advance: Callable[[int], None],
        size: int = 0,
        kept: int = 0,
        result: int = 0,
        tiles: Sequence[Window] | None = None,
    ) -> Iterator[tuple[Window, Iterator[tuple[Window, T]]]]:
        """Goes over all pixels, or those of some tiles, see :func:`malice_core.analysis.windows.over`.

        Args:
            embeddings: all of one grid.
            work: from a cell and its pixels in each embedding; called in several threads.
            advance: told how many pixels were done.
            size: bytes a pixel that the work takes.
            kept: bytes that are held all the time.
            result: bytes a pixel that are held until a window is written.
            tiles: of ``windows.STRIP`` pixels, in order; None: all of them.
        """
        from malice_core.analysis import windows

        sides = windows.plan(embeddings, self.memory, self.threads, work=size, kept=kept, result=result)
        if tiles is None:
            cut = windows.windows(embeddings[0].area, sides)
        else:
            cut = [part for tile in tiles for part in windows.parts(tile, min(sides[0], windows.STRIP))]
        for window, results in windows.over(embeddings, cut, work, self.threads, self.check):
            yield window, results
            advance(window.pixels)

    def drawn(
        self, embedding: Embedding, count: int, seed: int, advance: Callable[[int], None], kept: int = 0
    ) -> Sample:
        """Pixels for a fit, see :func:`malice_core.analysis.sampling.draw`; arguments as of :meth:`over`."""
        from malice_core.analysis import sampling, windows

        kept += sampling.bytes_of(embedding, count)
        sides = windows.plan([embedding], self.memory, self.threads, kept=kept)
        return sampling.draw(embedding, count, seed, sides[0], self.threads, self.check, advance)

    @contextmanager
    def outputs(self, names: Mapping[str, Path | None], inputs: Iterable[Path], overwrite: bool) -> Iterator[Outputs]:
        """Where to write; when it is left without an error, everything is put in place and told.

        Args:
            names: outputs by option, ``--output`` first.
            inputs: files and folders that are read.
            overwrite: files that exist are replaced.

        Raises:
            OutputError: if something cannot be written.
        """
        from malice_core.analysis.result import Outputs, check_names

        check_names(names, inputs, overwrite)
        main = next(path for path in names.values() if path is not None)
        with Outputs(main, self.cancel) as outputs:
            yield outputs
            # A file may have appeared under a name meanwhile.
            check_names(names, (), overwrite)
            files = outputs.place()
        self.reporter.done(files, time.monotonic() - self.begun)

    def progress(self, passes: Mapping[str, int]) -> Progress:
        """Reports how far the run is.

        Args:
            passes: pixels of each step, in order.
        """
        return Progress(self.reporter, passes)


class Progress:
    """Pixels done of all steps of a run, see :meth:`Run.progress`."""

    def __init__(self, reporter: Reporter, passes: Mapping[str, int]) -> None:
        self._reporter, self._passes = reporter, dict(passes)
        self._total = max(1, sum(self._passes.values()))
        self._done = dict.fromkeys(self._passes, 0)
        if self._passes:
            reporter.progress(0, self._total, next(iter(self._passes)))

    def step(self, name: str) -> Callable[[int], None]:
        """What is to be told the pixels done in a step."""

        def advance(pixels: int) -> None:
            # A step that draws tiles may end early, or look at a tile more than was thought.
            self._done[name] = min(self._done[name] + pixels, self._passes[name])
            self._reporter.progress(min(sum(self._done.values()), self._total - 1), self._total, name)

        return advance

    def ended(self, name: str) -> None:
        """A step is over, however little was left to do."""
        self._done[name] = self._passes[name]

    def finish(self) -> None:
        """All steps are over."""
        self._reporter.progress(self._total, self._total, "done")


def tags(tool: str, source: Embedding, options: Mapping[str, object]) -> dict[str, str]:
    """What a result says of itself: the tool, where its numbers come from, and what is needed to repeat it.

    Args:
        options: those that decide the numbers, by name; None where one was not given.
    """
    return {
        "TIFFTAG_SOFTWARE": f"malice_core {malice_core.__version__}",
        "MALICE_VERSION": malice_core.__version__,
        "MALICE_TOOL": tool,
        **source.kind.tags(),
        **source.provenance(),
        "MALICE_OPTIONS": " ".join(
            f"--{name} {value}" for name, value in options.items() if value is not None and value is not False
        ),
    }
