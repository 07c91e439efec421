"""Releases, rollbacks, withdrawals, expiry and drops in any order, broken off at any request, by two who take turns.

An oracle that knows none of the code's rules watches every tag that moves. Long, by hand:
`pytest tests/release/test_production_machine.py --hypothesis-profile=long -s`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aml_images_dagster.builds import ledger as ledger_module
from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.builds.ledger import LATEST, ReleaseRecord
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.drop_script import import_images
from aml_images_dagster.release.lease import Lease
from tests.release.memory import FIRST, MemoryWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.release.release_json import ReleaseJson

IMAGES = ("base/a", "base/b", "gpu/c", "gpu/a")
"""The last was `base/a` once: it has the same name in production."""
PATIENCE_SECONDS = 600
STEPS: Counter[str] = Counter()


class Killed(BaseException):
    """Whoever did it is dead."""


@dataclass(eq=False)
class Action:
    """What somebody does to production, in a thread of its own so that it can stop anywhere.

    Attributes:
        what: `release`, `rollback`, `withdraw`, `drop` or `expire`.
        do: Does it.
        build: The build that is released.
        image: The image that is rolled back or withdrawn.
        to: The release tag that is rolled back to; empty for the one before.
        kill_at: At which request that changes something, or record, it dies.
        pause_at: At which look at its lease it falls asleep.
        goal: What a default rollback is to go to; None for nothing.
    """

    what: str
    do: Callable[[], object]
    build: ReleaseJson | None = None
    image: str = ""
    to: str = ""
    kill_at: int | None = None
    pause_at: int | None = None
    goal: str | None = None
    state: Literal["running", "paused", "killed", "refused", "done", "broken"] = "running"
    error: BaseException | None = None
    has_begun: bool = False
    is_completed: bool = False
    _changes: int = 0
    _checks: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _go_on: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def go(self) -> None:
        """Begin, or go on, until it is over or falls asleep."""
        self.state = "running"
        self._stopped.clear()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._go_on.set()
        assert self._stopped.wait(PATIENCE_SECONDS)

    def at_change(self) -> None:
        if self.state == "killed" or self._changes == self.kill_at:
            self.state = "killed"
            raise Killed
        self._changes += 1

    def at_check(self) -> None:
        if self._checks == self.pause_at:
            self.state = "paused"
            self._go_on.clear()
            self._stopped.set()
            self._go_on.wait(PATIENCE_SECONDS)
            self.state = "running"
        self._checks += 1

    def _run(self) -> None:
        try:
            self.do()
            self.state = "done"
        except Killed:
            self.state = "killed"
        except FactoryError as error:
            self.state, self.error = "refused", error
        except import_images.ImportRefused as error:
            self.state, self.error = "refused", error
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.state, self.error = "broken", error
        self._stopped.set()


class Oracle:
    """What may be and what may not, told from nothing but what was asked for and which tags moved."""

    def __init__(self, world: MemoryWorld) -> None:
        self.world = world
        self.tested: dict[str, set[str]] = defaultdict(set)
        self.builds: dict[str, ReleaseJson] = {}
        self.stacks: dict[str, list[str | None]] = defaultdict(lambda: [None])
        self.recorded_stacks: dict[str, list[str | None]] = defaultdict(lambda: [None])
        self.since: dict[str, Any] = {}
        self.moves: dict[str, list[tuple[str | None, str]]] = defaultdict(list)
        self.withdrawn: dict[str, set[str]] = defaultdict(set)
        self.withdrawn_tags: set[tuple[str, str]] = set()
        self.known: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        self.open_rollback: dict[str, str] = {}
        self.begun: set[str] = set()

    def repository(self, image: str) -> str:
        return f"public/azureml/{image.partition('/')[2]}"

    def see(self, repository: str) -> None:
        """A record is written: what was done elsewhere, or broke off, is known from now on."""
        self._see(repository)
        self.recorded_stacks[repository] = [*self.stacks[repository]]

    def _see(self, repository: str) -> None:
        self._put_back(repository, self.world.production.tagged.get((repository, LATEST)))

    def _put_back(self, repository: str, digest: str | None) -> None:
        stack = self.stacks[repository]
        if digest in stack:
            while stack[-1] != digest:
                stack.pop()
        else:
            stack.append(digest)

    def goal(self, image: str) -> str | None:
        """What a rollback without a name is to lead to."""
        repository = self.repository(image)
        self._see(repository)
        served = self.world.production.tagged.get((repository, LATEST))
        if served is not None and self.open_rollback.get(repository) == served:
            return served if self.may_go_back_to(image, served) else None
        earlier = self.stacks[repository][-2::-1]
        goal = next((digest for digest in earlier if digest and self.may_go_back_to(image, digest)), None)
        # Under this image it may have broken off before its release tag: it was served as another image of this name.
        return goal if goal and self.has_release_tag(repository, image, goal) else None

    def has_release_tag(self, repository: str, image: str, digest: str) -> bool:
        """Whether production serves a digest under a tag that this image was to be released under."""
        served = self.world.production.tagged
        tags = (its_tag for its_tag, its in self.known[repository, image] if its == digest)
        return any(served.get((repository, tag)) == digest for tag in tags)

    def may_go_back_to(self, image: str, digest: str) -> bool:
        repository = self.repository(image)
        is_known = any(its == digest for _, its in self.known[repository, image])
        return is_known and digest not in self.withdrawn[repository]

    def recorded(self, action: Action, record: ReleaseRecord) -> None:
        if record.begun is None:
            action.has_begun = True
            self.began(action, record)
            return
        action.is_completed = True
        for change in record.changes:
            if change.tag == LATEST:
                self.see(change.repository)
                if self.open_rollback.get(change.repository) == change.after:
                    self.open_rollback.pop(change.repository)
                if change.before != change.after:
                    assert change.after is not None
                    last = [move for move in self.moves[change.repository] if move[1] == change.after][-1]
                    assert last == (change.before, change.after), f"{record} says what never was: {last}"

    def began(self, action: Action, record: ReleaseRecord) -> None:
        if record.action == "release":
            self.begun.add(record.build)
        for change in record.changes:
            if record.action == "withdrawal":
                digest = self.world.production.tagged.get((change.repository, change.tag))
                self.withdrawn_tags.add((change.repository, change.tag))
                as_released = self.released_as(change.repository, change.tag)
                released = {its for build, its in as_released if build in self.begun}
                self.withdrawn[change.repository] |= {digest} if digest else released
            elif change.tag == LATEST:
                self.see(change.repository)
                self.open_rollback.pop(change.repository, None)
                if record.action == "rollback":
                    assert change.after is not None
                    self.open_rollback[change.repository] = change.after
            elif record.action == "release" and change.after:
                self.known[change.repository, change.image].add((change.tag, change.after))

    def released_as(self, repository: str, tag: str) -> set[tuple[str, str]]:
        return {
            (build.build, image.staging.digest)
            for build in self.builds.values()
            for image in build.images
            if f"{repository}:{tag}" in image.destinations
        }

    def moved(self, action: Action, repository: str, tag: str, before: str | None, after: str) -> None:
        """Called right after a tag of production was set."""
        served = self.world.production
        assert after in self.tested[repository], f"{repository}:{tag} is {after}, which nobody has tested"
        assert (repository, tag) not in self.withdrawn_tags, f"{repository}:{tag} is back"
        if tag != LATEST:
            assert before in (None, after), f"release tag {repository}:{tag} moved from {before} to {after}"
            return
        assert after not in self.withdrawn[repository], f"{repository}:latest is {after}, which is withdrawn"
        tags = [t for (r, t), d in served.tagged.items() if (r, d) == (repository, after) and t != LATEST]
        assert tags, f"{repository}:latest is {after}, which has no release tag"
        if before == after:
            return
        self.moves[repository].append((before, after))
        if action.what == "rollback":
            assert after == action.goal or action.to, f"back to {after} instead of {action.goal}"
            self._put_back(repository, after)
            oldest = min(b.created for b in self.builds.values() for i in b.images if i.staging.digest == after)
            self.since[repository] = oldest  # which of them is meant cannot be told from outside
            return
        assert action.build is not None
        created = action.build.created
        assert repository not in self.since or self.since[repository] <= created, f"{repository}:latest goes back"
        self.since[repository] = created
        if action.what == "drop":  # and nobody has seen what it replaced
            self.stacks[repository] = [*self.recorded_stacks[repository]]
        if action.what == "release":
            for image in action.build.images:
                for name in image.destinations[:-1]:
                    its, _, its_tag = name.rpartition(":")
                    assert served.tagged.get((its, its_tag)) == image.staging.digest, f"{name} is not there yet"
            self.stacks[repository].append(after)

    def is_served(self, build: ReleaseJson) -> bool:
        names = {name: image.staging.digest for image in build.images for name in image.destinations}
        return all(self.world.production.tagged.get(tuple(n.rsplit(":", 1))) == d for n, d in names.items())  # type: ignore[arg-type]


cuts = st.one_of(
    st.none(),
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("pause"), st.integers(0, 6)),
)
content = st.sampled_from(["new", "new", "d1", "d2"])
contents_of_images = st.one_of(
    st.fixed_dictionaries({"base/a": content}, optional={"base/b": content}),
    st.fixed_dictionaries({"base/a": content, "base/b": content, "gpu/c": content}),
    st.dictionaries(st.sampled_from(IMAGES), content, min_size=1, max_size=3),
)


class ProductionMachine(RuleBasedStateMachine):
    """Two actors: at most one is asleep in the middle of something while the other acts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="production-"))
        self.world = MemoryWorld(self.folder)
        self.oracle = Oracle(self.world)
        self.acting: list[Action] = []
        self.asleep: Action | None = None
        self.killed: Action | None = None
        self.count = 0
        self.patches: list[Any] = []
        self._watch()

    def _watch(self) -> None:
        create, check, put = ledger_module.create_atomically, Lease.check, self.world.production.put
        machine = self

        def record(path: Any, data: bytes) -> None:
            machine.acting[-1].at_change()
            create(path, data)
            machine.oracle.recorded(machine.acting[-1], ReleaseRecord.model_validate_json(data))
            machine.acting[-1].at_change()

        def look(lease: Lease) -> None:
            machine.acting[-1].at_check()
            check(lease)

        def move(repository: str, tag: str, digest: str) -> None:
            before = machine.world.production.tagged.get((repository, tag))
            put(repository, tag, digest)
            machine.oracle.moved(machine.acting[-1], repository, tag, before, digest)

        def change(*_: str) -> None:
            if machine.acting:
                machine.acting[-1].at_change()

        self.world.production.put = move  # type: ignore[method-assign]
        self.world.before_change = change
        self.patches = [
            mock.patch.object(ledger_module, "create_atomically", record),
            mock.patch.object(Lease, "check", look),
            mock.patch.object(import_images, "AT_ONCE", 1),  # in an order that can be repeated
        ]
        for patch in self.patches:
            patch.start()

    def teardown(self) -> None:
        try:
            if self.asleep is not None:
                self._wake(gone_on=True)
            self._still_goes_on()
        finally:
            for patch in reversed(self.patches):
                patch.stop()
            shutil.rmtree(self.folder)

    def _still_goes_on(self) -> None:
        """Whatever has happened, a new build of everything can be released, and taken back."""
        self.world.before_change = lambda *_: None
        last = self._build(dict.fromkeys(IMAGES[:3], "new"), None)
        done = self._act(Action("release", lambda: self.world.release(last), build=last))
        assert done.state == "done", done.error
        for image in IMAGES[:3]:
            self._roll_back(image, "", None)

    @initialize()
    def begin(self) -> None:
        """Two releases, so that there is something to go back to."""
        for _ in range(2):
            self.build_and_release({"base/a": "new", "base/b": "new"}, None)

    @rule(contents=contents_of_images, taken_tag=st.one_of(st.none(), st.integers(1, 9)))
    def build(self, contents: dict[str, str], taken_tag: int | None) -> None:
        STEPS["build"] += 1
        self._build(contents, taken_tag)

    def _build(self, contents: dict[str, str], taken_tag: int | None) -> ReleaseJson:
        self.count += 1
        number = self.count
        tag = taken_tag if taken_tag and taken_tag < number else number
        before, self.world.before_change = self.world.before_change, lambda *_: None
        made = {
            image: f"{number:x}{'abcf'[IMAGES.index(image)]}" if content == "new" else f"{content}{image[-1]}"
            for image, content in contents.items()
        }
        build = self.world.build(number, made, tag=f"20261123.v{tag}")
        self.world.before_change = before
        self.oracle.builds[build.build] = build
        for image in build.images:
            self.oracle.tested[self.oracle.repository(f"{image.family}/{image.name}")].add(image.staging.digest)
        return build

    @rule(which=st.integers(0, 5), cut=cuts)
    def release(self, which: int, cut: Any) -> None:
        builds = list(self.oracle.builds.values())
        build = builds[-1 - which % len(builds)]
        self._release(build, cut)

    @rule(contents=contents_of_images, cut=cuts)
    def build_and_release(self, contents: dict[str, str], cut: Any) -> None:
        self._release(self._build(contents, None), cut)

    def _release(self, build: ReleaseJson, cut: Any) -> Action:
        def do() -> None:
            self.world.release(completed(build.build, self.world.artifacts))

        return self._act(Action("release", do, build=build), cut)

    def _released(self, which: int) -> tuple[str, str]:
        """An image and a tag that it was to be released under, mostly a late one."""
        pairs = [
            (f"{image.family}/{image.name}", build.release_tag)
            for build in reversed(self.oracle.builds.values())
            for image in build.images
        ]
        return pairs[which % len(pairs)]

    @rule(which=st.integers(0, 9), is_named=st.booleans(), cut=cuts)
    def roll_back(self, which: int, is_named: bool, cut: Any) -> None:
        image, tag = self._released(which)
        self._roll_back(image, tag if is_named else "", cut)

    def _roll_back(self, image: str, to: str, cut: Any) -> Action:
        goal = self.oracle.goal(image)
        action = Action("rollback", lambda: self.world.roll_back(image, to), image=image, to=to, goal=goal)
        done = self._act(action, cut)
        if done.state == "done" and not to:
            assert self.oracle.world.production.tagged.get((self.oracle.repository(image), LATEST)) == goal
        if done.state == "refused" and not to and not self.asleep and goal is not None:
            raise AssertionError(f"{image} can be rolled back to {goal}") from done.error
        return done

    @rule(cut=cuts)
    def roll_back_the_first(self, cut: Any) -> None:
        self._roll_back(IMAGES[0], "", cut)

    @rule(which=st.integers(0, 9), cut=cuts)
    def withdraw(self, which: int, cut: Any) -> None:
        image, tag = self._released(which)
        self._act(Action("withdraw", lambda: self.world.withdraw(tag, image), image=image, to=tag), cut)

    @rule(number=st.integers(1, 9), claims_are_old=st.booleans())
    def expire(self, number: int, claims_are_old: bool) -> None:
        """The janitor on the day on which everything up to this build is too old."""
        now = FIRST + timedelta(hours=min(number, self.count), days=self.world.settings.keep_staged_days, minutes=1)
        claimed = (now - timedelta(hours=2 if claims_are_old else 0)).timestamp()
        for outcome in self.world.artifacts.root.glob("*/outcome.json"):
            os.utime(str(outcome), (claimed, claimed))
        runs: Any = SimpleNamespace(state=lambda _: "succeeded", failure=lambda _: None)
        self._act(Action("expire", lambda: sweep(self.world.backends, self.world.settings, runs, now)))
        for build in self.oracle.begun:
            record = self.world.artifacts.build(build).read_build()
            assert record is not None
            if self.asleep is None or self.asleep.build is None or self.asleep.build.build != build:
                self._is_whole(build, record.status)
        for build in list(self.oracle.builds)[:number]:
            record = self.world.artifacts.build(build).read_build()
            assert record is not None
            is_left = record.status == "succeeded" and build not in self.oracle.begun
            assert not (is_left and claims_are_old), f"{build} stays for a release that died before its first record"

    def _is_whole(self, build: str, status: str) -> None:
        """What has begun to be released stays in staging, unless it had left before that."""
        if status != "succeeded":
            return
        for image in self.oracle.builds[build].images:
            assert self.world.staging.tagged.get((image.family, f"{image.name}--{build}")) == image.staging.digest

    @precondition(lambda self: self.asleep is None)
    @rule(which=st.integers(0, 3))
    def drop(self, which: int) -> None:
        """A release elsewhere that knows of no ledger: not of what is withdrawn, and not while others release."""
        builds = list(self.oracle.builds.values())
        build = builds[-1 - which % len(builds)]
        record = self.world.artifacts.build(build.build).read_build()
        oracle = self.oracle
        own_tag = f"20261123.v{int(build.build[-8:], 16)}"
        repositories = [oracle.repository(f"{i.family}/{i.name}") for i in build.images]
        if record is None or record.status != "succeeded" or own_tag != build.release_tag:
            return
        if len(set(repositories)) < len(repositories) or any(
            image.staging.digest in oracle.withdrawn[repository]
            or (repository, build.release_tag) in oracle.withdrawn_tags
            for image, repository in zip(build.images, repositories, strict=True)
        ):
            return
        production: Any = _DropProduction(self.world)
        images = [import_images.Tested(i.family, i.staging.digest, i.destinations) for i in build.images]

        def do() -> None:
            import_images._check_age(images, production)
            import_images.import_all(images, production, lambda _: None)

        self._act(Action("drop", do, build=build))

    @precondition(lambda self: self.asleep is not None)
    @rule()
    def lease_runs_out(self) -> None:
        """The other has slept for longer than its lease lasts."""
        STEPS["lease runs out"] += 1
        for path in (self.world.ledger.folder / "lease").glob("*.json"):
            path.write_text(path.read_text().replace('"until": "2', '"until": "1'))

    @precondition(lambda self: self.asleep is not None)
    @rule(gone_on=st.booleans())
    def wake(self, gone_on: bool) -> None:
        self._wake(gone_on=gone_on)

    def _wake(self, *, gone_on: bool) -> None:
        action, self.asleep = self.asleep, None
        assert action is not None
        if not gone_on:
            action.kill_at = action._changes
        self._finish(action)

    @precondition(lambda self: self.killed is not None and self.asleep is None)
    @rule()
    def again(self) -> None:
        """Whoever was killed calls the same again at once, and it is completed."""
        killed, self.killed = self.killed, None
        assert killed is not None
        if killed.what == "release":
            assert killed.build is not None
            done = self._release(killed.build, None)
            assert done.state == "done", done.error
        elif killed.what == "rollback":
            assert self._roll_back(killed.image, killed.to, None).state == "done"
            if not killed.to:
                assert self.world.production.tagged[self.oracle.repository(killed.image), LATEST] == killed.goal
        else:
            again = Action("withdraw", lambda: self.world.withdraw(killed.to, killed.image), image=killed.image)
            assert self._act(again).state == "done"
            assert (self.oracle.repository(killed.image), killed.to) not in self.world.production.tagged

    def _act(self, action: Action, cut: Any = None) -> Action:
        if cut is not None:
            action.kill_at, action.pause_at = (cut[1], None) if cut[0] == "kill" else (None, cut[1])
        if self.asleep is not None:
            action.pause_at = None
        self._finish(action)
        return action

    def _finish(self, action: Action) -> None:
        self.acting.append(action)
        try:
            action.go()
        finally:
            self.acting.pop()
        STEPS[f"{action.what} {action.state}"] += 1
        if action.state == "broken":
            assert action.error is not None
            raise action.error
        if action.state == "paused":
            self.asleep = action
        # What happens next may be in its way, or complete it.
        was_cut = action.state == "killed" and action.has_begun and not action.is_completed
        self.killed = action if was_cut else None
        if action.state == "done" and action.what == "release":
            assert action.build is not None
            assert self.oracle.is_served(action.build)

    @invariant()
    def every_latest_is_whole(self) -> None:
        production = self.world.production
        for (repository, tag), digest in production.tagged.items():
            assert (repository, digest) in production.digests, f"{repository}:{tag} leads nowhere"
            if tag == LATEST:
                assert digest in self.oracle.tested[repository]
                assert digest not in self.oracle.withdrawn[repository], f"{repository}:latest is withdrawn"

    @invariant()
    def records_are_numbered(self) -> None:
        if self.asleep is None:
            records = self.world.ledger.records()
            assert [record.number for record in records] == list(range(1, len(records) + 1))


class _DropProduction:
    """Production as a drop sees it."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    def digest(self, name: str) -> str | None:
        repository, _, tag = name.rpartition(":")
        return self._world.production.tagged.get((repository, tag))

    def tags(self, repository: str, digest: str) -> list[str]:
        return [
            tag
            for (its, tag), its_digest in self._world.production.tagged.items()
            if (its, its_digest) == (repository, digest)
        ]

    def bring(self, image: import_images.Tested, name: str, *, replace: bool) -> None:
        repository, _, tag = name.rpartition(":")
        self._world.production.put(repository, tag, image.digest)

    def bring_evidence(self, _image: import_images.Tested, _repository: str) -> None:
        """Nothing is attached to these images (tests/builds/steps/test_attached_evidence.py)."""


SHORT = {"max_examples": 25, "stateful_step_count": 25}
is_long = settings.get_current_profile_name() == "long"
ProductionMachine.TestCase.settings = settings(
    deadline=None, suppress_health_check=list(HealthCheck), **({} if is_long else SHORT)
)
TestProduction = ProductionMachine.TestCase


def teardown_module() -> None:
    print(f"\n{STEPS.total()} steps: {', '.join(f'{name} {n}' for name, n in sorted(STEPS.items()))}")
