"""`wiserl doctor`: what would go wrong here, and what to do about it."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated

import tyro

from common import variables
from common.security import ClientSecurity
from wiserl import parsing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wiserl.doctor import Finding

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


@dataclasses.dataclass(frozen=True)
class DoctorFlags(ClientSecurity):
    """Examines this machine: versions, extras, cores and limits, memory, ports, GPU, clock.

    With the address of a learner also whether a sampler here would reach it and could build its
    environment. Exit codes: 0 nothing failed, though there may be warnings; 1 something did; 2 a
    flag that cannot be.
    """

    learner: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Where a learner serves."""

    allow_module: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A module that the learner's environment module:factory may come from; its code runs here."""

    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print a list of findings as JSON."""


FLAGS = DoctorFlags


def run(arguments: Sequence[str]) -> int:
    """Runs the verb; answers the exit code."""
    default = variables.from_environment(DoctorFlags)
    parsed = parsing.one(DoctorFlags, arguments, program="wiserl doctor", default=default)
    if parsed.learner is not None:
        from common.addresses import split_address

        split_address(parsed.learner)  # before anything is examined
    findings = []
    for finding in _examined(parsed):
        findings.append(finding)
        if not parsed.json:
            print(_line(finding, coloured=sys.stdout.isatty()), flush=True)
    if parsed.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        print(_summary(findings))
    return int(any(finding.level == "fail" for finding in findings))


def _examined(parsed: DoctorFlags) -> Iterator[Finding]:
    from wiserl import doctor

    yield from doctor.examine_machine()
    if parsed.learner is not None:
        from wiserl import doctor_learner

        yield from doctor_learner.examine(parsed.learner, parsed.allow_module, parsed)


def _line(finding: Finding, *, coloured: bool) -> str:
    level = f"{finding.level:<5}"
    if coloured:
        level = f"\033[{_COLOURS[finding.level]}m{level}\033[0m"
    text = f"{level}{finding.subject:<14} {finding.said}"
    return f"{text}\n{'':<19} -> {finding.remedy}" if finding.remedy else text


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(one.level == level for one in findings) for level in ("warn", "fail")}
    if not any(counts.values()):
        return "all is well"
    return f"{counts['fail']} failed, {counts['warn']} to look at"
