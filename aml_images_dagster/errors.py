"""The errors that are shown to a person: what, where, and a hint."""

from __future__ import annotations

from aml_images_dagster.text import printable, printable_line

INTERRUPTED = 130
"""The exit code of a command that a person has interrupted: 128 and the number of SIGINT, as shells have it."""


class FactoryError(Exception):
    """An error that is shown to the user as one message, without a traceback.

    Args:
        what: What is wrong, as a sentence without a full stop.
        where: The place: a file with its line, a setting, a reference, a command-line option.
        hint: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        # Messages repeat names and words of strangers: files, Dockerfiles, what registries and git answer.
        self.what, self.where, self.hint = printable(what), printable_line(where), printable(hint)
        super().__init__(self.what, self.where, self.hint)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.what}{hint}"


class BadInput(FactoryError):  # noqa: N818 - read as "raise BadInput"
    """The user's input or prerequisites are wrong: nothing was started. Exit code 2."""

    exit_code = 2


class BuildFailed(FactoryError):  # noqa: N818
    """The build was started and failed. Exit code 1.

    Args:
        what: See `FactoryError`.
        where: See `FactoryError`.
        hint: See `FactoryError`.
        log: The end of the log that shows the failure.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "", log: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.log = printable(log)


class BuildStopped(BuildFailed):
    """A part of a build was stopped, because another part has failed or the build was canceled."""


class ReleaseFailed(FactoryError):  # noqa: N818
    """A change of production started and did not complete; what is done stays done. Exit code 1."""


class ReleaseInterrupted(FactoryError):  # noqa: N818
    """A person has interrupted a release that had started; what is done stays done. Exit code 130."""

    exit_code = INTERRUPTED


class Unreachable(FactoryError):  # noqa: N818
    """An engine, a registry or another service does not answer, or refuses the request. Exit code 2."""

    exit_code = 2


def refused_by_system(error: OSError) -> BadInput:
    """An error of the operating system, such as a full disk, as a `FactoryError`."""
    return BadInput(
        error.strerror or str(error) or type(error).__name__,
        where=str(error.filename or ""),
        hint="Check the free space and the permissions there.",
    )
