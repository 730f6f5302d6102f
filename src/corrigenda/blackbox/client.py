"""A black box: a model behind an OpenAI-compatible endpoint, which generates and nothing else.

    model = Remote("http://localhost:8000/v1", "edited")
    model.generate(["The Eiffel Tower is located in the city of"])

Greedy answers (temperature 0) of one prompt per request. A prompt is sent as it is: to be continued
where the endpoint has completions, as the user's message of a chat where it has not. It offers what
the free-generation scores need (`generate`), so `measure.observe` works on it; scores that need
logits are absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..endpoint import Endpoint
from ..errors import EndpointError, InputError, UnknownNameError

__all__ = ["Form", "Remote"]

Form = Literal["auto", "completions", "chat"]

PATHS = {"completions": "completions", "chat": "chat/completions"}
WHAT = {"completions": "a completion", "chat": "a chat completion"}


@dataclass
class Remote:
    """A model behind an address.

    url       base of the API, ending in "/v1" mostly.
    model     as the endpoint calls it. Empty: the only one that it has.
    key       sent as a bearer token; None: none is. It is never recorded.
    form      how a prompt is sent; "auto": completions where the endpoint has them, else chat.
    workers   requests under way at once.
    timeout   seconds for one reply.
    attempts  tries of one request.
    backoff   seconds before the second try; doubled for each further one.
    """

    url: str
    model: str = ""
    key: str | None = field(default=None, repr=False)
    form: Form = "auto"
    workers: int = 4
    timeout: float = 120.0
    attempts: int = 6
    backoff: float = 1.0
    served: str = field(default="", init=False)
    """The model that the server says it ran."""

    @property
    def id(self) -> str:
        return f"{self.model or 'a model'} at {self.url}"

    def models(self) -> list[str]:
        """The names of the models that the endpoint lists.

        Raises `EndpointError` where it lists none or speaks otherwise.
        """
        endpoint = self._endpoint()
        found = endpoint.get("models")
        try:
            return [str(row["id"]) for row in found["data"]]
        except (KeyError, TypeError) as error:
            raise endpoint.strange(error, str(found), "a list of models") from None

    def ready(self) -> Remote:
        """Settle which model is asked and in which form, before anything long begins.

        Raises `UnknownNameError` for a model that the endpoint does not list, `InputError` where
        one of several must be named, and `EndpointError` where nobody answers.
        """
        if not self.model:
            known = self.models()
            if len(known) != 1:
                listed = ", ".join(known) or "none"
                raise InputError(
                    f"{self.url} lists {len(known)} models ({listed}). Name the one to ask "
                    "(--remote-model NAME)."
                )
            self.model = known[0]
        if self.form == "auto":
            has = self._endpoint().answers(PATHS["completions"])
            self.form = "completions" if has else "chat"
        return self

    def check(self) -> None:
        """Raises `UnknownNameError` where the endpoint lists its models and this is none of them."""
        try:
            known = self.models()
        except EndpointError:
            return  # some list nothing
        if self.model not in known:
            raise UnknownNameError("model", self.model, known)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 16,
        batch_size: int = 64,
        until: Callable[[str], bool] | None = None,
    ) -> list[str]:
        """Greedy answers, without the prompts. Equal prompts are asked once.

        batch_size, until  as a local model takes them. Neither says anything here: an endpoint
                           batches as it likes, and writes on to the limit.

        Raises `InputError` for an empty prompt, `EndpointError` where the server refuses, stays
        silent, speaks otherwise, or changes the model on the way.
        """
        if any(not prompt.strip() for prompt in prompts):
            raise InputError("A prompt is empty. Give the model some text to continue.")
        if not prompts:
            return []
        form = self.ready().form
        once = list(dict.fromkeys(prompt.rstrip(" ") for prompt in prompts))
        endpoint = self._endpoint()
        bodies = [self._body(prompt, form, max_new_tokens) for prompt in once]
        replies = endpoint.post(PATHS[form], bodies, WHAT[form])
        texts, names = {}, {self.served}
        for prompt, reply in zip(once, replies, strict=True):
            try:
                choice = reply["choices"][0]
                text = choice["text"] if form == "completions" else choice["message"]["content"]
                names.add(str(reply.get("model") or self.model))
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise endpoint.strange(error, str(reply), WHAT[form]) from None
            texts[prompt] = text or ""
        self.served = endpoint.one_model(names, "answers of two models are not one score")
        return [texts[prompt.rstrip(" ")] for prompt in prompts]

    def identity(self) -> dict[str, Any]:
        """What a result has to say about where it came from."""
        return {
            "id": self.id,
            "url": self.url,
            "model": self.model,
            "served": self.served,
            "form": self.form,
            "temperature": 0,
        }

    def _endpoint(self) -> Endpoint:
        hint = f"Check the model's name {self.model!r}, the address and the key."
        return Endpoint(
            self.url,
            self.key or "",
            hint,
            self.workers,
            self.timeout,
            self.attempts,
            self.backoff,
        )

    def _body(self, prompt: str, form: str, tokens: int) -> dict[str, Any]:
        asked: dict[str, Any] = {"prompt": prompt}
        if form == "chat":
            asked = {"messages": [{"role": "user", "content": prompt}]}
        return {"model": self.model, **asked, "temperature": 0, "max_tokens": tokens}
