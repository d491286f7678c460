"""Write prompts that name a person's own phrase beside a collection's words, and prompts that do not name it.

In: a phrase and a collection. Out: prompts, and which words of the phrase no caption contains. It asks no model.
"""

from collections.abc import Set

from attribution.concepts import (
    SPACED_WORD,
    captioned,
    combinations,
    full_prompt,
    named_in,
    words_of,
)
from attribution.errors import InputError
from attribution.models.diffusion import MAX_PROMPT
from attribution.pictures.collection import Collection
from attribution.sentence import Sentence


def plain_phrase(phrase: str) -> str:
    """Refuse a phrase that asks nothing; give it with single spaces."""
    phrase = " ".join(phrase.split())
    if len(phrase) > MAX_PROMPT:
        told = "the phrase has {count} characters; the limit is {most}"
        raise InputError(Sentence(told, count=len(phrase), most=MAX_PROMPT))
    if not words_of(phrase):
        raise InputError('the phrase has no words; describe what you look for, as in "at night"')
    return phrase


def words_in(captions: list[str]) -> set[str]:
    """Give the words of some captions, in scripts that put spaces between them."""
    words = {word for caption in set(captions) for word in words_of(caption)}
    return set(filter(SPACED_WORD.match, words))


def known_words(collection: Collection) -> set[str]:
    """Give the words of all captions."""
    return words_in(collection.captions)


def unknown_words(phrase: str, known: Set[str]) -> list[str]:
    """Give the words of a phrase that no caption contains; the model never learned what they mean.

    Where no spaces stand between words, none can be told from others, and none is named.
    """
    words = filter(SPACED_WORD.match, dict.fromkeys(words_of(phrase)))
    return [word for word in words if word not in known]


def prompts_with(phrase: str, collection: Collection, count: int, seed: int) -> list[str]:
    """Write prompts that name the phrase and then a value of every concept that it does not name itself.

    The phrase comes first, where no tokenizer cuts it off.
    """
    concepts = collection.concepts
    if not concepts:
        return [f"{phrase}, {caption}" for caption in captioned(collection, count, seed)]
    others = [concept for concept in concepts if concept not in named_in(phrase, concepts)]
    wanted = combinations(collection, held_out=False, count=count, seed=seed)
    named = [{c: concepts[c][values[c]] for c in others} for values in wanted]
    rests = [full_prompt(phrases, collection.sentence) for phrases in named]
    return [", ".join(filter(None, (phrase, rest))) for rest in rests]


def prompts_without(phrase: str, collection: Collection, count: int, seed: int) -> list[str]:
    """Write prompts of the collection's own that do not name the phrase; fewer, or none, where most do."""
    concepts = collection.concepts
    if not concepts:
        named = set(words_of(phrase))
        captions = captioned(collection, len(collection), seed)
        return [each for each in captions if not named <= set(words_of(each))][:count]
    named = named_in(phrase, concepts)
    every = combinations(collection, held_out=False, count=8 * count, seed=seed)
    phrases = [collection.phrases(values) for values in every]
    others = [each for each in phrases if not named.items() & each.items()]
    return [full_prompt(each, collection.sentence) for each in others[:count]]
