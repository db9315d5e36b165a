# SPDX-License-Identifier: Apache-2.0
"""RT-2 on any Hugging Face image-text-to-text model: prompt, constrained decoding, one valid
action.

config/policies/rt2-tiny.yaml
type: vlm
checkpoint: models/rt2-tiny     # a folder, or a hub id; brings action_space.json
plan: required                  # none | optional | required
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, ProcessorMixin

from rt2_ros.actions import (
    ActionSpace,
    AnswerGrammar,
    Grammar,
    PlanForm,
    action_prompt,
    choose_vocabulary,
    question_prompt,
)
from rt2_ros.actions.bins import BINS
from rt2_ros.data.images import square
from rt2_ros.models.constrain import Held, Smoothing, Step, generate
from rt2_ros.models.decode import Answer, Decoder, Prompt
from rt2_ros.models.prepare import Preparation, by_processor
from rt2_ros.models.text import check_prefix
from rt2_ros.policies.base import Decision, Observation
from rt2_ros.policies.checkpoint import InPlace, load_checkpoint
from rt2_ros.policies.memory import AnswerMemory
from rt2_ros.policies.registry import RECORDED
from rt2_ros.policies.settings import COUNT, LIST, NUMBER, PATH, TEXT, check

ANY_SIZE = 224  # px, that are asked for where a model takes any
NO_NUMBERS = "the model's scores are no numbers"
NEAR = 8  # bins to either side that count as the same answer for the confidence

LOADING = {"checkpoint": PATH, "device": TEXT, "dtype": TEXT, "weights": TEXT}
KEYS = {
    **LOADING, "plan": TEXT, "max_plan_tokens": COUNT, "vocabulary": TEXT, "vocabulary_ids": LIST,
    "prefix_attention": TEXT, "smoothing": NUMBER, "image_size": COUNT, "threads": COUNT,
    "plan_every": COUNT, "look_every": COUNT, "pictures": COUNT,
}  # fmt: skip


# What a checkpoint was trained with, and no policy can choose; where nothing is said, this.
LEARNED = {"pictures": 1, "prefix_attention": "full"}


class VlmPolicy:
    """A vision-language model with an action space."""

    def __init__(
        self, name: str, model: PreTrainedModel, processor: ProcessorMixin,
        space: ActionSpace, *, plan: str = "none",
        max_plan_tokens: int | None = None, plan_form: PlanForm | None = None,
        vocabulary: str | None = None,
        vocabulary_ids: list[int] | None = None, prefix_attention: str = "full",
        image_size: int | None = None, smoothing: float = 0.0, plan_every: int = 1,
        look_every: int = 1, pictures: int = 1, in_place: InPlace | None = None,
    ) -> None:  # fmt: skip
        """plan: whether the model writes "Plan: ..." first. prefix_attention: 'full' as the model's
        own processor says, 'causal' where it was trained so (see `rt2_ros.models.tiny`).
        smoothing: bins over which an integer's probability is spread before the likeliest is
        taken (see `rt2_ros.models.constrain`); for models trained with soft targets.
        plan_every: decisions for which a plan is kept; look_every: for which what lasts in plans is
        (see `rt2_ros.policies.memory`).
        pictures: how many of an observation's the model looks at, from the first on.
        plan_form: what the model's plans look like; without one they are free text of at most
        max_plan_tokens, 32 if that is not given.
        in_place: files that its weights are read from, looked at before each decision.
        """
        if prefix_attention not in ("full", "causal"):
            raise ValueError(
                f"policy {name}: prefix_attention is {prefix_attention!r}; expected full or causal"
            )
        check_prefix(model, prefix_attention, f"policy {name}: ")
        if plan_form is not None and max_plan_tokens is not None:
            raise ValueError(
                f"policy {name}: max_plan_tokens is {max_plan_tokens}; expected none, for this "
                "model's plans have a form"
            )
        self.name, self.action_space = name, space
        self.model, self._processor, self._causal = model, processor, prefix_attention == "causal"
        words = choose_vocabulary(processor.tokenizer, vocabulary, vocabulary_ids)
        image_token = getattr(processor, "image_token_id", None)
        forbidden = [] if image_token is None else [image_token]
        self._grammar = Grammar(
            words, space, plan=plan, max_plan_tokens=max_plan_tokens or 32, forbidden=forbidden,
            form=plan_form,
        )  # fmt: skip
        self._answers = AnswerGrammar(words, max_tokens=32)
        self._words = words
        spellings = enumerate(words.spellings)
        integers = {ids[0]: value for value, ids in spellings if len(ids) == 1}
        # Of integers of several tokens those of one are but the beginnings of others.
        self._integers = integers if len(integers) == BINS else {}
        if smoothing and not self._integers:
            raise ValueError(
                f"policy {name}: smoothing is {smoothing!r}; expected 0, for this model's integers "
                f"are not all of one token (vocabulary {words.scheme})"
            )
        self._smoothing = Smoothing(self._integers, smoothing)
        self._decode, self._memory = (
            Decoder(model),
            AnswerMemory(self._grammar, plan_every, plan_form, look_every),
        )
        fixed = _image_size(processor)
        self.image_size = image_size or fixed or ANY_SIZE
        self._scaled = bool(image_size or fixed)
        self.pictures, self._in_place = pictures, in_place
        self._prepare = Preparation(processor, self.image_size)

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> VlmPolicy:
        """Load a checkpoint; every error names the key or the file."""
        settings = check(name, config, KEYS)
        if threads := settings.pop("threads", None):
            torch.set_num_threads(threads)
        asked = {key: settings.pop(key) for key in LOADING if key in settings}
        found = load_checkpoint(name, **asked)
        learned = {**LEARNED, **found.learned} if found.learned else {}
        recorded = {key: learned[key] for key in RECORDED if key in learned}
        told = {**LEARNED, **recorded, **settings}
        for key in (*LEARNED, *RECORDED[:3]):
            if learned.get(key) not in (None, told.get(key)):
                raise ValueError(
                    f"policy {name}: {key} is {told[key]!r}; expected {learned[key]!r}, as the "
                    "checkpoint's training.json says"
                )
        if found.form and "max_plan_tokens" not in settings:  # it says how long a plan may be
            told.pop("max_plan_tokens", None)
        return cls(
            name, found.model, found.processor, found.space, plan_form=found.form,
            in_place=found.in_place, **check(name, told, KEYS),
        )  # fmt: skip

    def infer(self, observation: Observation) -> Decision:
        """One action for what is seen now, or an invalid decision with its reason."""
        return self._infer([observation])[0]

    def infer_batch(self, observations: Sequence[Observation]) -> list[Decision]:
        """The decision on each observation, in their order, by forwards that serve them all.

        Latencies are those of the whole batch.
        """
        attempts = [(o.episode, o.instruction) for o in observations if o.episode]
        if len(set(attempts)) < len(attempts):
            return [self.infer(each) for each in observations]  # a later one remembers the earlier
        return self._infer(observations)

    def infer_without_guesses(self, observation: Observation) -> Decision:
        """`infer` without its last answers as guesses: what these save."""
        return self._infer([observation], guessing=False)[0]

    def _infer(self, observations: Sequence[Observation], guessing: bool = True) -> list[Decision]:
        return self._believed(partial(self._decided, guessing=guessing), observations)

    def _believed(
        self, decide: Callable[[Sequence[Observation], bool], list[Decision]],
        observations: Sequence[Observation],
    ) -> list[Decision]:  # fmt: skip
        """What `decide` says of them. "Done" counts where a second look says so too, without the
        reminder of what was seen before: where that was wrong, the model takes it for done early.
        """
        if self._in_place:
            self._in_place.check()
        before = [self._memory.last(each) for each in observations]
        decisions = decide(observations, True)
        again = [
            index
            for index, (first, last) in enumerate(zip(decisions, before, strict=True))
            if last and last.recalled and first.action is not None and first.action.terminate
        ]
        for index in again:
            self._memory.put_back(observations[index], before[index])
        seconds = decide([observations[index] for index in again], False) if again else []
        for index, second in zip(again, seconds, strict=True):
            spent = Counter(decisions[index].latency)
            spent.update(second.latency)
            decisions[index] = replace(second, latency=dict(spent))
        return decisions

    def _decided(
        self, observations: Sequence[Observation], remind: bool, guessing: bool = True
    ) -> list[Decision]:
        begun = time.perf_counter()
        decisions: dict[int, Decision] = {}
        prompts = {}
        for index, observation in enumerate(observations):
            try:
                inputs = self.inputs(observation, remind)
            except ValueError as error:
                decisions[index] = Decision.invalid(str(error))
            else:
                prompt = self._memory.prompt(observation, inputs, keep=remind)
                prompts[index] = prompt if guessing else replace(prompt, guesses=())
        prepare = time.perf_counter() - begun
        answers = self._decode(list(prompts.values()), self._grammar, smoothing=self._smoothing)
        for (index, prompt), answer in zip(prompts.items(), answers, strict=True):
            decisions[index] = self._decision(observations[index], prompt, answer, prepare)
        return [decisions[index] for index in range(len(observations))]

    @property
    def forwards(self) -> int:
        """How many times the model has computed so far."""
        return self._decode.forwards

    def infer_by_generate(self, observation: Observation) -> Decision:
        """What `infer` is held to: the processor, and the model's own `generate`, masked."""
        return self._believed(self._generated, [observation])[0]

    def _generated(self, observations: Sequence[Observation], remind: bool) -> list[Decision]:
        decisions = []
        for observation in observations:
            begun = time.perf_counter()
            asked = self._prompt(observation, remind)
            seen = self._seen(observation)
            inputs = self._to_model(by_processor(self._processor, seen, asked))
            prepared = time.perf_counter()
            prompt = self._memory.prompt(observation, inputs, keep=remind)
            grammar = Held(self._grammar, prompt.held, prompt.begin, prompt.only)
            steps = grammar.steps(generate(self.model, inputs, grammar, smoothing=self._smoothing))
            answer = Answer(steps, {"generate": time.perf_counter() - prepared})
            decisions.append(self._decision(observation, prompt, answer, prepared - begun))
        return decisions

    def inputs(self, observation: Observation, remind: bool = True) -> dict[str, torch.Tensor]:
        """What the model reads before it answers: pixels and tokens, the image's included.

        ValueError where it cannot be asked: its state is not known, or a camera is missing.
        """
        return self._inputs(self._seen(observation), self._prompt(observation, remind))

    def _seen(self, observation: Observation) -> list[NDArray[np.uint8]]:
        """The pictures that the model looks at."""
        seen = [self._square(i) for i in [*observation.images.values()][: self.pictures]]
        if len(seen) < self.pictures:
            raise ValueError(
                f"the model looks at {self.pictures} pictures, and there "
                f"{'is' if len(seen) == 1 else 'are'} {len(seen)}: {', '.join(observation.images)}"
            )
        return seen

    def _prompt(self, observation: Observation, remind: bool = True) -> str:
        """The question to the model; ValueError where it cannot be asked."""
        bins = None
        if self.action_space.has_state:
            if observation.state is None:
                raise ValueError("the robot's state is not known, and this model needs it")
            bins = self.action_space.state_bins(observation.state)
        recalled = self._memory.recalled(observation) if remind else ""
        return action_prompt(observation.instruction, bins, recalled)

    def _decision(
        self, observation: Observation, prompt: Prompt, answer: Answer, prepare: float
    ) -> Decision:
        """What an answer to `prompt` means; it is remembered, if it was chosen by numbers."""
        parsed = self._grammar.read(answer.tokens)
        steps = [self._sure(each) for each in answer.steps]
        confidence = _confidence(steps)
        details: dict[str, Any] = {
            "text": self._words.text(answer.tokens),
            "tokens": answer.tokens,
            "latency": {"prepare": prepare, **answer.latency},
        }
        if not math.isfinite(confidence):
            self._decode.clean()
            return Decision.invalid(NO_NUMBERS, **details)
        self._memory.note(observation, prompt, steps, parsed.plan if parsed.valid else "")
        if parsed.action is None:
            return Decision.invalid(parsed.reason, **details)
        return Decision(
            parsed.action, bins=parsed.bins, plan=parsed.plan, confidence=confidence, **details
        )

    def answer(self, image: NDArray[np.uint8], question: str) -> str:
        """Free text about one RGB picture (H, W, 3), also where actions need several.

        ValueError where the scores that it was chosen by are no numbers.
        """
        if self._in_place:
            self._in_place.check()
        inputs = self._inputs([self._square(image)], question_prompt(question))
        answer = self._decode([Prompt(inputs)], self._answers)[0]
        if not math.isfinite(_confidence([self._sure(step) for step in answer.steps])):
            self._decode.clean()
            raise ValueError(NO_NUMBERS)
        return self._words.text(answer.tokens)

    def _square(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture at the size that the model learned from; as it is where any will do."""
        return square(image, self.image_size) if self._scaled else image

    def _inputs(self, images: list[NDArray[np.uint8]], prompt: str) -> dict[str, torch.Tensor]:
        return self._to_model(self._prepare(images, prompt))

    def _to_model(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._causal:
            inputs.pop("token_type_ids", None)
        model = self.model
        return {
            key: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
        }

    def _sure(self, step: Step) -> Step:
        """A token alone, with the probability that it was written with.

        Neighbouring integers mean nearly the same step, so where all may come one counts with those
        within `NEAR` bins.
        """
        if len(step.allowed) == 1:  # nothing was chosen, or before
            return step
        ids, probabilities = step.allowed.cpu().numpy(), step.probabilities.cpu().numpy()
        value = self._integers.get(step.token)
        if value is None or len(ids) < len(self._integers):
            same = [step.token]
        else:
            near = self._words.spellings[max(0, value - NEAR) : value + NEAR + 1]
            same = sorted(spelling[0] for spelling in near)
        places = np.searchsorted(ids, same).clip(max=len(ids) - 1)
        total = float(probabilities[places[ids[places] == same]].sum())
        return Step(step.token, torch.tensor([step.token]), torch.tensor([total]))


def _confidence(steps: Sequence[Step]) -> float:
    """Geometric mean over tokens of the probability of what was written."""
    shares = [step.probabilities.item() for step in steps]
    return float(np.exp(np.log(np.clip(shares, 1e-9, 1.0)).mean())) if shares else 0.0


def _image_size(processor: ProcessorMixin) -> int:
    """The side in pixels that the image processor asks for; 0 where it takes any size."""
    size = processor.image_processor.size
    side = size.get("height") or size.get("shortest_edge")
    return int(side) if side and side <= 1024 else 0
