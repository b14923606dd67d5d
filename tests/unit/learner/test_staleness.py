"""How old experience is, and how often to publish so that little of it is too old."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidFieldError
from learner import staleness
from learner.staleness import Lags, Publications, PublishingInterval, StalenessSettings


def settings(**given_):
    fields = {
        "max_staleness": 4,
        "batch_fragments": 1,
        "queue_fragments": 1,
        "max_publish_interval": 64,
    }
    return StalenessSettings(**(fields | given_))


def test_lag_counts_publications_and_not_numbers():
    known = Publications()
    for version in (3, 10, 11):
        known.published(version)
    assert [known.lag(version) for version in (11, 10, 3)] == [0, 1, 2]
    # One of another process, before this one's.
    assert known.lag(1) == 3


def test_fragments_are_counted_since_the_publication():
    known = Publications()
    known.fragments = 5
    known.published(1)
    known.fragments = 7
    known.published(2)
    known.fragments = 10
    assert [known.fragments_since(version) for version in (2, 1, 0)] == [3, 5, 10]
    assert known.newest == 2


def test_what_is_forgotten_is_older_than_what_is_known(monkeypatch):
    monkeypatch.setattr(staleness, "REMEMBERED", 3)
    known = Publications()
    for version in range(1, 7):
        known.published(version)
    assert [known.lag(version) for version in (6, 4, 3, 1)] == [0, 2, 3, 3]


def test_lags_are_means_over_what_was_used_and_start_over():
    lags = Lags()
    assert lags.take() == {}
    lags.add(1, fragments=3)
    lags.add(5)
    lags.add(9, fragments=4, is_stale=True)
    assert lags.take() == {
        "learner/policy_lag": 2.0,
        "learner/policy_lag_max": 5.0,
        "learner/stale_share": 0.5,
    }
    lags.add(7, is_stale=True)
    assert lags.take() == {"learner/stale_share": 1.0}
    assert lags.take() == {}


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        ({"max_staleness": 0}, "max_staleness", "would be stale; raise it, or train in synchron"),
        ({"batch_fragments": 0}, "batch_fragments", "0 is below 1"),
        ({"max_publish_interval": 0}, "max_publish_interval", "0 is below 1"),
        (
            {"batch_fragments": 4, "queue_fragments": 3},
            "queue_size",
            "3 is below the 4 fragments of an update: training would wait for ever",
        ),
        (
            {"max_staleness": 1, "max_publish_interval": 2},
            "max_staleness",
            "and max_publish_interval is 2; raise max_staleness to 2 or max_publish_interval to 3",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_number(fields, field, text):
    with pytest.raises(InvalidFieldError, match=text) as caught:
        settings(**fields)
    assert caught.value.field == field


def test_the_bound_on_fragments_in_flight():
    # 4 publications of 64 updates of 2 fragments, less the 3 in the queue.
    assert settings(batch_fragments=2, queue_fragments=3).most_in_flight == 4 * 64 * 2 - 3


class Pipeline:
    """Fragments in flight, each begun with the newest version, trained on in the order of begin."""

    def __init__(self, in_flight, **fields):
        self.settings = settings(**fields)
        self.interval = PublishingInterval(self.settings)
        self.publications = Publications()
        self.version = 0
        self.publish()
        self.flying = collections.deque([self.version] * in_flight)
        self.stale = []

    def publish(self):
        self.version += 1
        self.publications.published(self.version)

    def update(self):
        """One update; what is stale is dropped, and more is taken until the batch is full."""
        fresh = 0
        while fresh < self.settings.batch_fragments:
            version = self.flying.popleft()
            self.flying.append(self.version)
            is_stale = self.publications.lag(version) > self.settings.max_staleness
            self.interval.judged(self.publications.fragments_since(version))
            self.publications.fragments += 1
            self.stale.append(is_stale)
            fresh += not is_stale
        self.interval.adapt()
        if self.interval.is_over(self.publications.fragments_since(self.version)):
            self.publish()


@given(
    samplers=st.integers(1, 16),
    slots=st.integers(1, 8),
    batch=st.integers(1, 16),
    most=st.integers(1, 8),
)
def test_of_any_number_of_samplers_at_most_one_in_twenty_is_stale(samplers, slots, batch, most):
    in_flight = 2 * samplers * slots
    pipeline = Pipeline(
        in_flight,
        batch_fragments=batch,
        queue_fragments=batch,
        max_staleness=most,
        max_publish_interval=1024,
    )
    for _ in range(2 * in_flight // batch + 600):
        pipeline.update()
    begun = pipeline.stale[-400 * batch :]
    assert sum(begun) / len(begun) <= staleness.STALE_SHARE
    # And no more seldom than that takes: what comes next to last would be stale otherwise.
    needed = -(-in_flight // (batch * most))
    assert pipeline.interval.updates <= 2 * needed + 2


def test_without_adapting_most_of_it_would_be():
    pipeline = Pipeline(16, max_publish_interval=1024)
    pipeline.interval.adapt = lambda: None
    for _ in range(400):
        pipeline.update()
    assert sum(pipeline.stale) / len(pipeline.stale) > 0.5


def test_the_interval_stays_within_its_bound():
    pipeline = Pipeline(500, max_publish_interval=8)
    for _ in range(1500):
        pipeline.update()
    assert pipeline.interval.updates == 8
