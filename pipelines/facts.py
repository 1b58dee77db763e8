"""What a call was about, what was promised and what was left unanswered: sentences of the call itself, with their time.

Found with the phrases of lexicon/facts.yaml, in English or in the English translation; the time it takes grows with
the length of the call. In doubt a sentence is left out: a supervisor acts on what is shown.

An issue is a sentence in which the customer says what is wrong or, early in the call, why they call.

A commitment is "I will", "we're going to", "you will receive" and the like, in a clause of its own, with an act that
somebody can be held to ("call", "send") or with a time at which it will be done. Denials, conditions, questions,
what somebody else said, and what is done at once within the call ("I'll check", "I'll put you through") are none.

A question is left unanswered when the other party's next WINDOW_TURNS turns hold nothing but questions and mere
acknowledgements, and no later turn of theirs takes up a word of it. Any other statement answers it; one that asks for
a time or a number wants one, or a statement of ANSWER_WORDS words. Of a repeated question the last one counts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from affectline.pipelines.checked_yaml import read_checked
from affectline.pipelines.phrases import PhraseIndex, Token, checked_phrases, tokens_of
from affectline.pipelines.text import span_of
from affectline.pipelines.timeline import Fact, FactKind, Participant, Utterance

TABLES: Final = Path(__file__).parent / "lexicon" / "facts.yaml"
MAX_ISSUES: Final = 3
EARLY_SENTENCES: Final = 8
"""Of the customer: why they call is said within these …"""
REASON_SCORE, TROUBLE_SCORE, OPENING_SCORE = 3, 2, 1
"""… and an issue among the first OPENING_SENTENCES counts for more. By convention, as what follows."""
OPENING_SENTENCES: Final = 4
MIN_ISSUE_WORDS: Final = 4
LONG_WORDS: Final = 30
"""A sentence of more words is cut where a new clause begins: a recogniser may leave out every full stop."""
MIN_CLAUSE_WORDS: Final = 6
MAX_CLAUSE_TOKENS: Final = 60
"""Cut anyway, so that time grows with the length alone."""
TENTATIVE_WORDS: Final = 8
"""So many words before a promise can make it someone else's, or doubtful."""
WHETHER_WORDS: Final = 3
MIN_QUESTION_WORDS: Final = 3
WINDOW_TURNS: Final = 4
ANSWER_WORDS: Final = 10
REPEATS: Final = 10
"""A question is compared with so many of the same party's next ones."""
SAME: Final = 0.5
"""Two questions that share this part of their words are one."""
UNREAD: Final = "[…]"
"""Stands for what was said in a language that is not read: it answers, and is nothing else."""
STEM_LETTERS: Final = 4
"""Words are compared by their beginnings: "arrive" and "arrival" are one."""
_TOKEN: Final = re.compile(r"\[[^\[\]\s]{1,40}\]|\w+(?:'\w+)*|[.!?;,\n]")
_MARKS: Final = frozenset(".!?;,\n")
_END: Final = re.compile(r"(?<![.!?…])[.!?…]+(?=\s|$)|[;\n]")
_TITLE: Final = re.compile(r"\b(?:mr|mrs|ms|dr)$")
_INITIALS: Final = re.compile(r"\.[a-z]$")
"""The full stop after "a.m" ends no sentence, unless a capital follows."""
_HESITATIONS: Final = frozenset(("okay", "ok", "um", "uh", "er", "well", "yeah", "oh", "hmm", "alright"))
"""Not shown at the start of a sentence."""
_CLAUSE: Final = frozenset(("and", "but", "so", "then"))
_SUBJECTS: Final = frozenset(
    "i i'm i'll i've i'd we we're we'll we've you you're you'll he she it it's they they're there there's that's my "  # noqa: SIM905
    "the this can could do is are what when where why how".split()
)

Words = Annotated[frozenset[str], BeforeValidator(lambda text: frozenset(str(text).split())), Field(min_length=1)]
Phrases = Annotated[list[str], Field(min_length=1), AfterValidator(checked_phrases)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _IssueTable(_Table):
    reasons: Phrases
    troubles: Phrases
    asides: Phrases
    announcements: Phrases


class _CommitmentTable(_Table):
    speakers: Phrases
    persons: Phrases
    things: Phrases
    futures: Phrases
    receivers: Phrases
    adverbs: Phrases
    acts: Phrases
    agent_acts: Phrases
    thing_acts: Phrases
    receipts: Phrases
    passing: Phrases
    due: Phrases
    tentative: Words
    turning: Words
    conditions: Words
    whether: Words


class _QuestionTable(_Table):
    lead_ins: Phrases
    open_forms: Phrases
    polar_forms: Phrases
    amounts: Phrases
    courtesies: Phrases
    tags: Words
    withdrawn: Phrases
    yes_or_no: Phrases
    open_answers: Phrases
    values: Phrases
    fillers: Words


class _Tables(_Table):
    issue: _IssueTable
    commitment: _CommitmentTable
    question: _QuestionTable
    function_words: Words


class _Matcher:
    """Whether any phrase of one table is at, or in, a sentence."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._index = PhraseIndex((phrase, None) for phrase in phrases)

    def after(self, tokens: Sequence[Token], at: int) -> int:
        """Token after the longest phrase that begins at `at`; 0 for none."""
        return max((after for after, _ in self._index.at(tokens, at)), default=0)

    def skip(self, tokens: Sequence[Token], at: int) -> int:
        """Token after all phrases that follow each other from `at` on."""
        while after := self.after(tokens, at):
            at = after
        return at

    def within(self, tokens: Sequence[Token], start: int = 0) -> bool:
        return any(self.after(tokens, at) for at in range(start, len(tokens)))


@dataclass(frozen=True, slots=True)
class _Sentence:
    utterance: Utterance
    text: str
    start: int
    end: int
    """Half-open range of characters in the utterance's English."""
    tokens: tuple[Token, ...]
    """Without the mark at its end."""
    asks: bool
    """Ends with a question mark."""

    @property
    def words(self) -> list[str]:
        return [token.word for token in self.tokens if token.word not in _MARKS]


@dataclass(slots=True)
class _Turn:
    """What one party says until another speaks, as an answer to what was asked before."""

    participant: str
    end_us: int
    yes_or_no: bool = False
    states: bool = False
    """Says something that is neither a question nor an acknowledgement."""
    value: bool = False
    open_answer: bool = False
    longest: int = 0
    """Words of the longest statement."""
    withdraws: bool = False


@dataclass(frozen=True, slots=True)
class _Question:
    sentence: _Sentence
    turn: int
    stems: frozenset[str]
    amount: bool
    """Asks for a time, a number or a sum."""
    polar: bool
    """Can be answered with a yes or a no."""


class FactFinder:
    """Raises InvalidInputError that lists every fault of its tables by line."""

    def __init__(self, tables: Path = TABLES) -> None:
        read = read_checked(tables, _Tables, "facts")
        self._function_words = read.function_words
        self._issue, self._commitment, self._question = (
            {name: _Matcher(phrases) for name, phrases in table if isinstance(phrases, list)}
            for table in (read.issue, read.commitment, read.question)
        )
        self._promising = read.commitment
        self._asking = read.question

    def find(self, participants: Sequence[Participant], utterances: Sequence[Utterance]) -> tuple[Fact, ...]:
        """By time; utterances: final ones, in time order."""
        role_of = {party.id: party.role for party in participants}
        sentences = [sentence for utterance in utterances for sentence in _sentences(utterance)]
        found = [
            fact
            for party in participants
            if party.role == "customer"
            for fact in self.issues([u for u in utterances if u.participant == party.id])
        ]
        for sentence in sentences:
            promise = self._promise(sentence, by_agent=role_of.get(sentence.utterance.participant) == "agent")
            if promise is not None:
                found.append(_fact("commitment", _from_clause(sentence, promise)))
        found += [_fact("open_question", sentence) for sentence in self._open_questions(sentences)]
        last = {(fact.kind, fact.participant, fact.text.lower()): fact for fact in found}
        return tuple(sorted(last.values(), key=lambda fact: (fact.span, fact.kind)))

    # Issues

    def issues(self, utterances: Sequence[Utterance]) -> list[Fact]:
        """What the customer, whose utterances these are, calls about: at most MAX_ISSUES, the clearest first."""
        sentences = [
            s for u in utterances for s in _sentences(u) if len(s.words) >= MIN_ISSUE_WORDS or self._announces(s)
        ]
        scored: list[tuple[int, _Sentence]] = []
        announced = False
        for number, sentence in enumerate(sentences):
            if self._announces(sentence):
                announced = True
                continue
            score = self._issue_score(sentence, number) + TROUBLE_SCORE * announced
            announced = False
            if score >= TROUBLE_SCORE:
                scored.append((score + OPENING_SCORE * (number < OPENING_SENTENCES), sentence))
        scored.sort(key=lambda each: -each[0])
        return [_fact("issue", sentence) for score, sentence in scored[:MAX_ISSUES] if 2 * score >= scored[0][0]]

    def _announces(self, sentence: _Sentence) -> bool:
        tokens, announcement = sentence.tokens, self._issue["announcements"]
        return any(announcement.after(tokens, at) == len(tokens) for at in range(len(tokens)))

    def _issue_score(self, sentence: _Sentence, number: int) -> int:
        tokens = sentence.tokens
        if self._issue["asides"].within(tokens):
            return 0
        score = TROUBLE_SCORE * any(  # "no problem with it" is none
            self._issue["troubles"].after(tokens, at) and not (at and tokens[at - 1].word in ("no", "not", "any"))
            for at in range(len(tokens))
        )
        if number < EARLY_SENTENCES:
            score += REASON_SCORE * self._issue["reasons"].within(tokens)
        return 0 if sentence.asks and score < REASON_SCORE else score

    # Commitments

    def _promise(self, sentence: _Sentence, *, by_agent: bool) -> int | None:
        """The token at which the sentence begins to promise; None where it does not."""
        tokens, tables = sentence.tokens, self._commitment
        if (sentence.asks and not self._only_tagged(sentence)) or self._conditional(tokens):
            return None
        for at in range(len(tokens)):
            if opening := tables["speakers"].after(tokens, at):
                acts = ("acts", "agent_acts") if by_agent else ("acts",)
                promised = self._promised(tokens, opening, acts, due=True)
            elif by_agent and (opening := tables["receivers"].after(tokens, at)):
                promised = self._promised(tokens, opening, ("receipts",), due=False)
            elif by_agent and (opening := self._future(tokens, tables["persons"].after(tokens, at))):
                promised = self._promised(tokens, opening, ("acts", "agent_acts"), due=True)
            elif by_agent and (opening := self._future(tokens, tables["things"].after(tokens, at))):
                promised = self._promised(tokens, opening, ("thing_acts",), due=False)
            else:
                continue
            if promised and not self._tentative(tokens, at):
                return at
        return None

    def _future(self, tokens: Sequence[Token], at: int) -> int:
        if at and tokens[at - 1].word.endswith("'ll"):
            return at
        return self._commitment["futures"].after(tokens, at) if at else 0

    def _promised(self, tokens: Sequence[Token], opening: int, acts: Sequence[str], *, due: bool) -> bool:
        """Whether an act follows the opening, or an "and"; or another one, with the time of it.

        Where an act and a way of speaking both fit, the longer one says what is meant.
        """
        tables = self._commitment
        first = tables["adverbs"].skip(tokens, opening)
        if first >= len(tokens) or tokens[first].word in ("not", "never"):
            return False
        passing = tables["passing"].after(tokens, first)
        if max(tables[name].after(tokens, first) for name in acts) > passing:
            return True
        for joined in range(first, len(tokens)):
            if tokens[joined].word == "and":
                at = tables["adverbs"].skip(tokens, joined + 1)
                if any(tables[name].after(tokens, at) for name in acts):
                    return True
        return due and not passing and tables["due"].within(tokens, first)

    def _tentative(self, tokens: Sequence[Token], at: int) -> bool:
        for back in range(at - 1, max(-1, at - 1 - TENTATIVE_WORDS), -1):
            word = tokens[back].word
            if word in self._promising.turning or word == ",":
                return False
            if word in self._promising.tentative:
                return True
        return False

    def _conditional(self, tokens: Sequence[Token]) -> bool:
        return any(
            token.word in self._promising.conditions
            and not any(t.word in self._promising.whether for t in tokens[max(0, at - WHETHER_WORDS) : at])
            for at, token in enumerate(tokens)
        )

    def _only_tagged(self, sentence: _Sentence) -> bool:
        """A statement with "okay?" at its end."""
        return sentence.tokens[-1].word in self._asking.tags and not self._has_form(sentence)

    # Questions

    def _begins(self, sentence: _Sentence, table: str) -> bool:
        """Whether the sentence begins with a phrase of the table, after its lead-ins; commas do not matter."""
        tokens = [token for token in sentence.tokens if token.word != ","]
        at, after = 0, 1
        while after:
            if self._question[table].after(tokens, at):
                return True
            at = after = self._question["lead_ins"].after(tokens, at)
        return False

    def _has_form(self, sentence: _Sentence) -> bool:
        return self._begins(sentence, "open_forms") or self._begins(sentence, "polar_forms")

    def _is_question(self, sentence: _Sentence) -> bool:
        return sentence.asks or self._has_form(sentence)

    def _open_questions(self, sentences: Sequence[_Sentence]) -> Iterator[_Sentence]:
        turns, place = self._turns(sentences)
        if len({turn.participant for turn in turns}) < 2:
            return  # the other side was not recorded, or speaks on the same channel
        last_stated: dict[str, dict[str, int]] = {}
        for sentence, turn in zip(sentences, place, strict=True):
            if not self._is_question(sentence):
                for stem in self._stems(sentence):
                    last_stated.setdefault(stem, {})[sentence.utterance.participant] = turn
        questions: dict[str, list[_Question]] = {}
        for sentence, turn in zip(sentences, place, strict=True):
            if self._counts(sentence):
                amount = self._question["amounts"].within(sentence.tokens)
                polar = not self._begins(sentence, "open_forms")
                question = _Question(sentence, turn, self._stems(sentence), amount, polar)
                questions.setdefault(sentence.utterance.participant, []).append(question)
        for asked in questions.values():
            for number, question in enumerate(asked):
                if any(_same(question, later) for later in asked[number + 1 : number + 1 + REPEATS]):
                    continue
                if not self._answered(question, turns, last_stated):
                    yield question.sentence

    def _counts(self, sentence: _Sentence) -> bool:
        if not self._is_question(sentence) or len(sentence.words) < MIN_QUESTION_WORDS:
            return False
        if self._only_tagged(sentence):
            return False
        own = {w for w in sentence.words if len(w) >= STEM_LETTERS} - self._function_words - _HESITATIONS
        if not own and not self._question["amounts"].within(sentence.tokens):
            return False  # "why is that?" tells nothing where it is quoted
        return not self._question["courtesies"].within(sentence.tokens)

    def _answered(self, question: _Question, turns: Sequence[_Turn], last_stated: dict[str, dict[str, int]]) -> bool:
        asker = question.sentence.utterance.participant
        before = turns[question.turn - 1] if question.turn else None
        spoken_over = before and before.end_us > question.sentence.utterance.span.end_us
        if before and spoken_over and before.participant != asker and self._answers(before, question):
            return True
        seen = 0
        for number in range(question.turn, len(turns)):
            turn = turns[number]
            if turn.participant == asker:
                if turn.withdraws:
                    return True
            elif self._answers(turn, question):
                return True
            else:
                seen += 1
                if seen == WINDOW_TURNS:
                    break
        return any(
            turn > question.turn and party != asker
            for stem in question.stems
            for party, turn in last_stated.get(stem, {}).items()
        )

    def _answers(self, turn: _Turn, question: _Question) -> bool:
        if turn.open_answer:
            return True
        if question.amount:
            return turn.value or turn.longest >= ANSWER_WORDS
        return turn.states or (question.polar and turn.yes_or_no)

    def _turns(self, sentences: Sequence[_Sentence]) -> tuple[list[_Turn], list[int]]:
        """The turns, and of each sentence the number of its turn."""
        turns: list[_Turn] = []
        place = []
        for sentence in sentences:
            utterance = sentence.utterance
            if not turns or turns[-1].participant != utterance.participant:
                turns.append(_Turn(utterance.participant, utterance.span.end_us))
            self._hear(turns[-1], sentence)
            place.append(len(turns) - 1)
        return turns, place

    def _hear(self, turn: _Turn, sentence: _Sentence) -> None:
        tokens, words, tables = sentence.tokens, sentence.words, self._question
        turn.end_us = max(turn.end_us, sentence.utterance.span.end_us)
        turn.withdraws |= tables["withdrawn"].within(tokens)
        turn.yes_or_no |= self._begins(sentence, "yes_or_no")
        turn.open_answer |= tables["open_answers"].within(tokens)
        if self._is_question(sentence) or self._acknowledges(words):
            return
        turn.states = True
        turn.value |= tables["values"].within(tokens) or any(w[0] == "[" for w in words)
        turn.longest = max(turn.longest, len(words))

    def _acknowledges(self, words: Sequence[str]) -> bool:
        """Nothing but fillers and function words."""
        plain = all(word in self._asking.fillers or word in self._function_words for word in words)
        return plain and (len(words) < MIN_QUESTION_WORDS or any(word in self._asking.fillers for word in words))

    def _stems(self, sentence: _Sentence) -> frozenset[str]:
        return frozenset(
            word[:STEM_LETTERS]
            for word in sentence.words
            if len(word) >= STEM_LETTERS and word not in self._function_words and word not in self._asking.fillers
        )


@cache
def _finder() -> FactFinder:
    return FactFinder()


def find_facts(participants: Sequence[Participant], utterances: Sequence[Utterance]) -> tuple[Fact, ...]:
    """By time; utterances: final ones, in time order."""
    return _finder().find(participants, utterances)


def find_issues(utterances: Sequence[Utterance]) -> list[Fact]:
    """What a customer, whose utterances these are, calls about: the clearest first."""
    return _finder().issues(utterances)


def _from_clause(sentence: _Sentence, at: int) -> _Sentence:
    """Without the clauses before the one of token `at`."""
    tokens = sentence.tokens
    for first in range(at, 0, -1):
        if tokens[first - 1].word in _CLAUSE and tokens[first].word in _SUBJECTS:
            start = tokens[first].start
            return replace(sentence, text=sentence.text[start - sentence.start :], start=start, tokens=tokens[first:])
    return sentence


def _same(one: _Question, other: _Question) -> bool:
    shared = len(one.stems & other.stems)
    return shared > 0 and shared >= SAME * len(one.stems | other.stems)


def _english(utterance: Utterance) -> str:
    """What the finder can read of it; empty for none."""
    return utterance.text if utterance.language == "en" else utterance.translation or UNREAD


def _fact(kind: FactKind, sentence: _Sentence) -> Fact:
    said = sentence.utterance
    span = span_of(said.words, said.text, sentence.start, sentence.end) if said.language == "en" else None
    return Fact(kind, said.participant, said.id, span or said.span, sentence.text)


def _sentences(utterance: Utterance) -> Iterator[_Sentence]:
    """Of its English; long ones clause by clause."""
    text = _english(utterance)
    tokens = tokens_of(text, _TOKEN)
    start = first = 0
    for end in (*_ends(text), len(text)):
        after = first
        while after < len(tokens) and tokens[after].start < end:
            after += 1
        asks = text[start:end].rstrip().endswith("?")
        pieces = list(_clauses(tokens[first:after]))
        for number, piece in enumerate(pieces, 1):
            last = number == len(pieces)
            shown = 0
            while shown < len(piece) - 1 and piece[shown].word in (*_HESITATIONS, ","):
                shown += 1
            begins = start if piece[shown] is tokens[first] else piece[shown].start
            said = text[begins : end if last else piece[-1].end]
            begins += len(said) - len(said.lstrip())
            said = said.strip()
            yield _Sentence(utterance, said, begins, begins + len(said), tuple(piece), asks and last)
        start, first = end, after


def _ends(text: str) -> Iterator[int]:
    for mark in _END.finditer(text):
        before, after = text[max(0, mark.start() - 4) : mark.start()].lower(), text[mark.end() : mark.end() + 2].strip()
        if mark[0] != "." or not (_TITLE.search(before) or (_INITIALS.search(before) and not after.isupper())):
            yield mark.end()


def _clauses(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The tokens without marks at the ends; cut before a new clause, without its conjunction, where they are many."""
    words = sum(token.word not in _MARKS for token in tokens)
    piece: list[Token] = []
    for at, token in enumerate(tokens):
        fresh = token.word in _CLAUSE and at + 1 < len(tokens) and tokens[at + 1].word in _SUBJECTS
        if words > LONG_WORDS and ((fresh and len(piece) >= MIN_CLAUSE_WORDS) or len(piece) >= MAX_CLAUSE_TOKENS):
            while piece and piece[-1].word in _CLAUSE:
                piece.pop()
            yield from _bare(piece)
            piece = [] if fresh else [token]
        else:
            piece.append(token)
    yield from _bare(piece)


def _bare(piece: list[Token]) -> Iterator[list[Token]]:
    """The piece without marks at its ends, if there is more in it."""
    start, end = 0, len(piece)
    while start < end and piece[start].word in _MARKS:
        start += 1
    while start < end and piece[end - 1].word in _MARKS:
        end -= 1
    if start < end:
        yield piece[start:end]
