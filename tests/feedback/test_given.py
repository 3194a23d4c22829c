"""Rankings, thumbs and better answers: what is kept, what may be used, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palmier.errors import Refusal
from palmier.feedback.store import Spot, Store
from palmier.records import Answer, Conversation, Message, Ranking

KINDS = ("ranking", "label", "demonstration")


def answered(store: Store, question: str = "hello", answers: tuple[str, ...] = ("one", "two")) -> tuple[int, list[int]]:
    """A conversation with one question; its number and those of its answers."""
    chat = store.new_conversation("ann")
    asked = store.add_message(chat, Message("user", question))
    drawn = [Answer(text, "0001", (4, 5), (-0.5, -1.0)) for text in answers]
    return chat, [store.add_message(chat, Message("assistant", one.text), one, asked) for one in drawn]


def give(store: Store, annotator: str = "ann") -> dict[str, int]:
    """One thing of each kind; their numbers."""
    chat, (one, two) = answered(store)
    pair = (Answer("one"), Answer("two"))
    ranking = Ranking(Conversation.ask("hello"), pair, (2, 1), annotator=annotator, strength=3, reason="warmer")
    store.set_label(annotator, chat, two, False)
    return {
        "ranking": store.add_ranking(ranking, f"key of {annotator}"),
        "label": store.set_label(annotator, chat, one, True),
        "demonstration": store.write_better(annotator, chat, two, "three", "shorter")[0],
    }


def usable(store: Store) -> dict[str, int]:
    """How much of each kind reaches whoever trains or exports."""
    made = [kind for preference in store.preferences() for kind, _ in preference.items]
    assert len(store.training_rankings()) == len([*store.preferences()])
    found = {
        "ranking": made.count("ranking"),
        "label": len([*store.training_labels()]),
        "demonstration": len([*store.training_demonstrations()]),
    }
    assert found == {kind: store.usable(kind) for kind in KINDS}
    assert ("label" in made) <= (found["label"] > 0)
    assert made.count("demonstration") == found["demonstration"]
    return found


def test_a_choice_keeps_its_strength_and_reason(place: Path | str) -> None:
    store = Store(place)
    give(store)
    store.set_consent("ann", True, "words")
    assert (store.training_rankings()[0].strength, store.training_rankings()[0].reason) == (3, "warmer")
    old = store.training_rankings()[0].to_json()
    del old["strength"], old["reason"]
    assert (Ranking.from_json(old).strength, Ranking.from_json(old).reason) == (0, "")
    for bad in ({"strength": 4}, {"strength": "clear"}, {"reason": 3}):
        with pytest.raises(Refusal, match=r"strength|reason"):
            Ranking.from_json(old | bad)


def test_compared_answers_join_their_conversation(place: Path | str) -> None:
    store = Store(place)
    chat = store.new_conversation("ann")
    asked = store.add_message(chat, Message("user", "hello"))
    answers = tuple(Answer(text, "0001") for text in ("a", "b", "c"))
    ranking = Ranking(Conversation.ask("hello"), answers, (2, 1, 2), annotator="ann")
    for _ in range(2):  # sent twice, it counts once
        store.add_ranking(ranking, "k", Spot(chat, asked, best=1))
    assert [one.message.content for one in store.tree(chat).children(asked)] == ["a", "c", "b"]
    assert [m.content for m in store.conversation(chat).messages] == ["hello", "b"], "it goes on from the best one"
    store.remove(chat)
    store.set_consent("ann", True, "words")
    assert store.training_rankings() == [ranking]


def test_a_thumb_can_be_changed_and_taken_back(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, "words")
    chat, (one, _) = answered(store)
    first = store.set_label("ann", chat, one, True)
    assert store.set_label("ann", chat, one, True) == first, "the same thumb again is the same"
    assert store.labels_of("ann", chat) == {one: True}
    assert store.labels_of("bob", chat) == {}
    store.set_label("bob", chat, one, False)
    store.set_label("ann", chat, one, False, "too short")
    (label,) = store.training_labels()
    assert (label.good, label.reason, label.annotator, label.answer.version) == (False, "too short", "ann", "0001")
    assert label.conversation == Conversation.ask("hello")
    store.set_label("ann", chat, one, None)
    assert [*store.training_labels()] == []
    assert (store.count("ann", "label"), store.count(None, "label"), store.count("ann")) == (0, 1, 0)
    question = store.tree(chat).children(None)[0].id
    with pytest.raises(Refusal, match="no answer"):
        store.set_label("ann", chat, question, True)
    with pytest.raises(Refusal, match="no message 99"):
        store.set_label("ann", chat, 99, True)


def test_opposite_thumbs_on_one_message_are_a_preference(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, "words")
    chat, (one, two, three) = answered(store, answers=("one", "two", "three"))
    store.set_label("ann", chat, one, False)
    store.set_label("ann", chat, two, False)
    assert store.training_rankings() == [], "one direction alone has no order"
    store.set_label("bob", chat, three, True)
    assert store.training_rankings() == [], "nor have two people's"
    store.set_label("ann", chat, three, True)
    (ranking,) = store.training_rankings()
    assert [(answer.text, rank) for answer, rank in zip(ranking.answers, ranking.ranks, strict=True)] == [
        ("one", 2),
        ("two", 2),
        ("three", 1),
    ]
    assert (ranking.conversation, ranking.annotator) == (Conversation.ask("hello"), "ann")


def test_a_better_answer_is_a_demonstration_and_a_preference(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, "words")
    chat, (one, _) = answered(store)
    number, message = store.write_better("ann", chat, one, "a better one", "friendlier")
    assert store.write_better("ann", chat, one, "a better one") == (number, message), "sent twice, it counts once"
    assert [m.content for m in store.conversation(chat).messages] == ["hello", "a better one"]
    (better,) = store.training_demonstrations()
    assert (better.text, better.annotator, better.reason) == ("a better one", "ann", "friendlier")
    (ranking,) = store.training_rankings()
    assert [answer.text for answer in ranking.answers] == ["a better one", "one"]
    assert (ranking.ranks, ranking.answers[1].tokens, ranking.answers[1].version) == ((1, 2), (4, 5), "0001")
    with pytest.raises(Refusal, match="word for word"):
        store.write_better("ann", chat, one, "one")
    with pytest.raises(Refusal, match="empty"):
        store.write_better("ann", chat, one, "  ")


@pytest.mark.parametrize("kind", KINDS)
def test_consent_and_withdrawal_hold_for_every_kind(place: Path | str, kind: Any) -> None:
    store = Store(place)
    numbers = give(store)
    give(store, "bob")
    store.set_consent("bob", False, "words")
    assert usable(store) == dict.fromkeys(KINDS, 0), "nobody was asked, or said no"
    store.set_consent("ann", True, "words")
    everything = {"ranking": 1, "label": 2, "demonstration": 1}
    assert usable(store) == everything
    assert {preference.ranking.annotator for preference in store.preferences()} == {"ann"}
    with pytest.raises(Refusal, match=f"no {kind}"):
        store.withdraw("bob", kind, numbers[kind])
    store.withdraw("ann", kind, numbers[kind])
    assert usable(store) == everything | {kind: everything[kind] - 1}
    with pytest.raises(Refusal, match="already"):
        store.withdraw("ann", kind, numbers[kind])
    store.set_consent("ann", False, "words")
    assert usable(store) == dict.fromkeys(KINDS, 0)
    store.set_consent("ann", True, "words")
    assert usable(store) == everything | {kind: everything[kind] - 1}


def test_an_older_wording_covers_what_it_named(place: Path | str) -> None:
    store = Store(place)
    give(store)
    store.set_consent("ann", True, "May your rankings be used?", 1)
    assert usable(store) == {"ranking": 1, "label": 0, "demonstration": 0}
    assert [fate.state for fate in store.fates("ann")] == ["next", "off", "off", "off"]
    store.set_consent("ann", True, "May everything be used?", 2)
    assert usable(store) == {"ranking": 1, "label": 2, "demonstration": 1}
    with pytest.raises(Refusal, match="wording 9"):
        store.set_consent("ann", True, "words", 9)


def test_what_became_of_it_and_how_far_a_withdrawal_reaches(place: Path | str) -> None:
    store = Store(place)
    numbers = give(store)
    chat, (lonely, _) = answered(store, "another question")
    store.set_label("ann", chat, lonely, True)
    store.add_ranking(Ranking(Conversation.ask("tie"), (Answer("a"), Answer("b")), (1, 1), annotator="ann"), "tie")
    assert {fate.state for fate in store.fates("ann")} == {"off"}
    assert store.reach("ann").rankings == 0, "nothing is used, so nothing is reached"
    store.set_consent("ann", True, "words")
    states = [(fate.kind, fate.state) for fate in store.fates("ann")]
    assert states == [
        ("ranking", "waiting"),
        ("ranking", "next"),
        ("label", "waiting"),
        ("label", "next"),
        ("label", "next"),
        ("demonstration", "next"),
    ]
    items = [item for preference in store.preferences() for item in preference.items]
    tie = next(item for item in items if item[0] == "ranking" and item[1] != numbers["ranking"])
    for _ in range(2):  # an improve that was killed notes it again
        store.note_uses("0004", [item for item in items if item != tie])
    found = {(fate.kind, fate.id): fate for fate in store.fates("ann")}
    assert found["ranking", numbers["ranking"]].sentence == "used in version 0004"
    assert found["demonstration", numbers["demonstration"]].versions == ("0004",)
    assert found[tie].sentence.startswith("kept: all answers tied")
    reach = store.reach("ann")
    assert (reach.rankings, reach.labels, reach.demonstrations, reach.versions) == (2, 3, 1, ("0004",))
    assert store.reach("bob").versions == ()
    store.withdraw("ann", "demonstration", numbers["demonstration"])
    (better,) = store.fates("ann", "demonstration")
    assert better.sentence == "taken back: not used any more; version 0004 was made with it"
    assert [fate.id for fate in store.fates("ann", "ranking", before=tie[1], limit=1)] == [numbers["ranking"]]


def test_what_was_given_in_a_conversation_is_told_beside_its_answers(place: Path | str) -> None:
    store = Store(place)
    store.set_consent("ann", True, "words")
    chat, (one, two) = answered(store)
    asked = store.tree(chat).messages[0].id
    pair = (Answer("three", "0002"), Answer("four", "0001"))
    store.add_ranking(Ranking(Conversation.ask("hello"), pair, (2, 1), annotator="ann"), "a", Spot(chat, asked, 1))
    three, four = (message.id for message in store.tree(chat).messages[-2:])
    store.set_label("ann", chat, one, False)
    _, better = store.write_better("ann", chat, two, "five")
    store.set_label("bob", chat, one, True)
    elsewhere, (other, _) = answered(store)
    store.set_label("ann", elsewhere, other, True)

    def told() -> dict[str, list[tuple[int, str, int]]]:
        found = store.fates_in("ann", chat)
        return {fate.kind: [(one.message, one.version, one.rank) for one in judged] for fate, judged in found}

    in_order = sorted([(four, "0001", 1), (three, "0002", 2)], key=lambda one: one[2])
    given = told()
    assert sorted(given["ranking"], key=lambda one: one[2]) == in_order
    assert given["label"] == [(one, "0001", 2)]
    assert given["demonstration"] == [(better, "", 1), (two, "0001", 2)]
    fates = {fate.kind: fate for fate, _ in store.fates_in("ann", chat)}
    assert [(fates[kind].said, fates[kind].good) for kind in KINDS] == [("four", None), ("one", False), ("five", None)]
    store.withdraw("ann", "ranking", fates["ranking"].id)
    store.set_label("ann", chat, one, None)
    assert set(told()) == {"demonstration"}
    with pytest.raises(Refusal, match="no conversation"):
        store.fates_in("ann", 99)
    store.remove(chat)
    with pytest.raises(Refusal, match="no conversation"):
        store.fates_in("ann", chat)
    assert [fate.said for fate in store.fates("ann", "demonstration")] == ["five"], "it stands without its conversation"


def test_a_comparison_without_a_best_answer_says_what_it_was(place: Path | str) -> None:
    store = Store(place)
    pair = (Answer("one"), Answer("two"))
    for key, all_bad in (("a", False), ("b", True)):
        store.add_ranking(Ranking(Conversation.ask(key), pair, (1, 1), all_bad=all_bad, annotator="ann"), key)
    assert [(fate.said, fate.good) for fate in store.fates("ann", "ranking")] == [("", False), ("", None)]
