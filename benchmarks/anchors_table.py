"""Returns of environments with several agents, beside chance, planners and what others came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wiserl.bench import report, tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = """## Several agents, beside what others came to

Returns are means over agents. "random" is what uniformly random actions return
(`random_policies.json`), "planner" what a search with the rules at hand comes to on the episodes of
the evaluations (`planners.json`); how much better the best is, is not known. What others published
is converted to the same measure, as `wiserl/bench/tasks.yaml` says, and none of it was run here.

On MPE it was played by earlier rules, in which a push moves an agent in the step that it is given
in, as in [OpenAI's environments](https://github.com/openai/multiagent-particle-envs).
PettingZoo's, of which mpe2 comes, have moved it in the step after
[since 2023](https://github.com/Farama-Foundation/PettingZoo/pull/965), and so every episode begins
with a step that nothing can be done about. "planner by earlier rules" says what that is worth. A
listener hears its goal after the first step, and so does its planner.

"""

_PLANNERS = {
    "mpe2": "planner",
    "openai": "planner by earlier rules",
    "told at once": "planner told the goal at once",
    "never told": "planner never told the goal",
}
"""What each plan of `planners.json` is called."""


def section(records: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The table under its heading, from all benchmarks' records; None without anything to say."""

    def returns(name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = records[name]["result"]["returns"] if name in records else {}
        return found

    measured = {env: {"random": mean} for env, mean in returns("random_policies").items()}
    for env, means in returns("planners").items():
        known = {called: means[plan] for plan, called in _PLANNERS.items() if plan in means}
        measured[env] = measured.get(env, {}) | known
    found = report.beside(list(tasks.load().values()), measured)
    return found and _HEAD + found
