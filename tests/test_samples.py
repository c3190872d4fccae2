"""The shipped conversations as events, and the metrics over them against counting by hand.

`BOTBOOK_TOPICAL` may name the file that the sample was drawn from; then the same is shown on all of it.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import groupby

import pandas as pd
import pytest

from botbook import metrics, samples
from botbook._errors import ConfigError
from botbook._local.sample import sample_path

FILES = [path for path in (str(sample_path()), os.environ.get("BOTBOOK_TOPICAL", "")) if path]
#: The stated mapping of the five rating words.
LIKES, DISLIKES = ("Excellent", "Good"), ("Passable", "Not Good", "Poor")
#: Conversations, turns and ratings of the sample, and of the whole file.
SIZES = ((60, 1_284, 1_284), (539, 11_681, 11_652))
Z = 1.959963984540054


# -- by hand, from the lines of the file alone ----------------------------------------------------


def wilson(hits, n):
    share = hits / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return middle - half, middle + half


def percentile(values, percent):
    values = sorted(values)
    at = (len(values) - 1) * percent / 100
    low, high = values[math.floor(at)], values[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


def words_of(text):
    found = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.casefold())
    return {word for word in found if len(word) > 1 and not word.isdecimal()}


def leaning(talks):
    """Word → log-odds of liked against disliked, for words of 3 conversations or more (one is one user)."""
    said, users, liked, disliked = Counter(), defaultdict(set), Counter(), Counter()
    for number, talk in enumerate(talks):
        question, states = None, defaultdict(set)
        for k, line in enumerate(talk):
            if line["agent"] == "agent_1":
                question = k
            elif question is not None and line["turn_rating"]:
                states[question].add(line["turn_rating"] in LIKES)
        for k, line in enumerate(talk):
            if line["agent"] == "agent_1":
                words = words_of(line["message"].strip())
                said.update(words)
                for word in words:
                    users[word].add(number)
                for like in states[k]:
                    (liked if like else disliked).update(words)
    odds = {}
    for word, people in users.items():
        if len(people) >= 3:
            prior = 10 * said[word] / said.total()
            one, two = (
                math.log((c[word] + prior) / (c.total() + 10 - c[word] - prior)) for c in (liked, disliked)
            )
            odds[word] = (one - two) / math.sqrt(1 / (liked[word] + prior) + 1 / (disliked[word] + prior))
    return odds, {word: len(people) for word, people in users.items()}


def by_hand(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    talks = [list(talk) for _, talk in groupby(rows, key=lambda row: row["conversation_id"])]
    sides = {side: Counter(r["turn_rating"] for r in rows if r["agent"] == side) for side in AGENTS}
    both = sides["agent_1"] + sides["agent_2"]
    made = {
        "conversations": len(talks),
        "turns": len(rows),
        "turns of agent_1": sum(row["agent"] == "agent_1" for row in rows),
        "turns of agent_2": sum(row["agent"] == "agent_2" for row in rows),
        "turns a conversation, median": percentile(map(len, talks), 50),
        "turns a conversation, p95": percentile(map(len, talks), 95),
    }
    runs = [
        [side for side, _ in groupby(talk, key=lambda row: row["agent"])].count("agent_1") for talk in talks
    ]
    made |= {
        "user turns": sum(runs),
        "user turns a conversation, median": percentile(runs, 50),
        "user turns a conversation, p95": percentile(runs, 95),
        "conversations that end with the user": sum(talk[-1]["agent"] == "agent_1" for talk in talks),
        "rated": sum(both[word] for word in (*LIKES, *DISLIKES)),
    }
    made |= {f"rated {word}": both[word] for word in (*LIKES, *DISLIKES)}
    for name, counts in (("", both), ("agent_1: ", sides["agent_1"]), ("agent_2: ", sides["agent_2"])):
        likes, n = (sum(counts[word] for word in words) for words in (LIKES, (*LIKES, *DISLIKES)))
        low, high = wilson(likes, n)
        made |= {f"{name}likes": likes, f"{name}dislikes": n - likes, f"{name}like rate": likes / n}
        made |= {f"{name}like rate, low": low, f"{name}like rate, high": high}
        made |= {
            f"{name}coverage": n / counts.total(),
            f"{name}dislikes a 1000": 1000 * (n - likes) / counts.total(),
        }
    made |= newcombe(made)
    odds, users = leaning(talks)
    ranked = sorted(users, key=lambda word: (-users[word], word))
    made["users of the most common word"] = users[ranked[0]]
    made["words that lean to likes"] = " ".join(sorted(odds, key=lambda w: (-odds[w], w))[:5])
    made["words that lean to dislikes"] = " ".join(sorted(odds, key=lambda w: (odds[w], w))[:5])
    return made


def newcombe(made):
    one, two = (made[f"{side}: like rate"] for side in AGENTS)
    (low1, high1), (low2, high2) = (
        (made[f"{side}: like rate, low"], made[f"{side}: like rate, high"]) for side in AGENTS
    )
    return {
        "difference of the sides": one - two,
        "difference, low": one - two - math.hypot(one - low1, high2 - two),
        "difference, high": one - two + math.hypot(high1 - one, two - low2),
    }


AGENTS = ("agent_1", "agent_2")


# -- the same by the metrics ----------------------------------------------------------------------


def by_metrics(path):
    frame = samples.topical_chat(path)
    both = pd.concat([frame, samples.topical_chat(path, bot="agent_1")])
    later = frame["at"].max() + timedelta(days=1)  # every session is over
    said = metrics.volume(frame, freq=None).set_index("role")["messages"]
    (talk,) = metrics.conversation_length(frame, as_of=later).to_dict("records")
    (end,) = metrics.containment(frame, freq=None, as_of=later).to_dict("records")
    (missed,) = metrics.unanswered(frame, freq=None, as_of=later).to_dict("records")
    assert end["abandoned"] == missed["unanswered"]
    words = Counter()
    for state in metrics.feedback_state(both)[["reasons"]].itertuples():
        words.update(state.reasons)
    made = {
        "conversations": talk["n"] + talk["open"],
        "turns": said.sum(),
        "turns of agent_1": said["user"],
        "turns of agent_2": said["assistant"],
        "turns a conversation, median": talk["messages_p50"],
        "turns a conversation, p95": talk["messages_p95"],
        "user turns": missed["user_turns"],
        "user turns a conversation, median": talk["turns_p50"],
        "user turns a conversation, p95": talk["turns_p95"],
        "conversations that end with the user": end["abandoned"],
        "rated": metrics.like_rate(both)["n"][0],
        **{f"rated {word}": words[word] for word in (*LIKES, *DISLIKES)},
    }
    for name, rows in (("", both), *((f"{side}: ", both[both["bot"] == side]) for side in AGENTS)):
        (liked,) = metrics.like_rate(rows).to_dict("records")
        (cover,) = metrics.feedback_coverage(rows, freq=None).to_dict("records")
        made |= {f"{name}likes": liked["likes"], f"{name}dislikes": liked["dislikes"]}
        made |= {f"{name}like rate": liked["like_rate"], f"{name}like rate, low": liked["like_low"]}
        made |= {f"{name}like rate, high": liked["like_high"], f"{name}coverage": cover["coverage_rate"]}
        made[f"{name}dislikes a 1000"] = cover["dislikes_per_1000"]
    (arm,) = metrics.compare(both, by="bot", base="agent_2").to_dict("records")
    made |= {"difference of the sides": arm["difference"]}
    made |= {"difference, low": arm["low"], "difference, high": arm["high"]}
    found = metrics.terms(frame)
    up, down = (found.sort_values(["z", "term"], ascending=[way, True])["term"][:5] for way in (False, True))
    made["users of the most common word"] = found["users"].max()
    made |= {"words that lean to likes": " ".join(up), "words that lean to dislikes": " ".join(down)}
    return made


@pytest.mark.parametrize("path", FILES, ids=["sample", "whole"][: len(FILES)])
def test_the_metrics_count_what_counting_by_hand_counts(path, record_property):
    hand, ours = by_hand(path), by_metrics(path)
    assert len(hand) >= 20
    assert (hand["conversations"], hand["turns"], hand["rated"]) in SIZES
    assert set(ours) == set(hand)
    for name, value in hand.items():
        record_property(name, value)
        assert ours[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12)), name


# -- the frame ------------------------------------------------------------------------------------


def test_clock_times_are_made_by_the_seed():
    one, again, other = (samples.topical_chat(seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert len(one) == len(other)
    assert not one["at"].equals(other["at"])
    assert one["at"].is_monotonic_increasing
    assert one["at"].min() >= pd.Timestamp("2026-03-16", tz="UTC")
    assert one["at"].max() < pd.Timestamp("2026-04-14", tz="UTC")


def test_a_message_keeps_its_place_and_is_rated_after_it():
    frame = samples.topical_chat(days=0.5)
    said = frame[frame["type"] != "feedback.received"]
    assert all(
        list(ids) == sorted(ids)
        for _, ids in said["message_id"].str.extract(r"(.*):(\d+)").astype({1: int}).groupby(0)[1]
    )
    clicks = frame[frame["type"] == "feedback.received"].merge(said, on="message_id", suffixes=("", "_said"))
    assert (clicks["at"] > clicks["at_said"]).all()
    assert set(clicks["role_said"]) == {"assistant"}
    assert frame["at"].max() - frame["at"].min() < pd.Timedelta(days=2)


def test_other_words_may_be_a_like():
    strict = metrics.like_rate(samples.topical_chat(likes=["Excellent"]))
    assert strict["likes"][0] < metrics.like_rate(samples.topical_chat())["likes"][0]
    assert strict["n"][0] == metrics.like_rate(samples.topical_chat())["n"][0]


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        samples.topical_chat(tmp_path / "nothing.gz")
    plain = tmp_path / "plain.txt"
    plain.write_text("hello")
    with pytest.raises(ConfigError, match="cannot be read"):
        samples.topical_chat(plain)
    for number, line in enumerate(
        ("[1]", "{}", "no json", '{"conversation_id": 1, "agent": 2, "message": 3}')
    ):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(gzip.compress(line.encode()))
        with pytest.raises(ConfigError, match="holds no conversations"):
            samples.topical_chat(path)
    with pytest.raises(ConfigError, match="no side"):
        samples.topical_chat(bot="agent_3")
    with pytest.raises(ConfigError, match="no number of days"):
        samples.topical_chat(days=0)
