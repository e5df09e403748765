"""`SamplingFailed`: why no answer of a model came, in words for the caller of the tool. No secret is ever in them."""

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

__all__ = ["SamplingFailed"]


class SamplingFailed(MCPError):
    """A model could not be asked, or did not come to an end. The text says what to do.

    `reason`: `no_key`, `refused_key`, `no_credit`, `unknown_model`, `refused`, `rate_limited`, `overloaded`,
    `unreachable`, `not_installed`, `bad_setting`, `bad_answer`, `cut_off` or `max_steps`.
    `retryable`: another attempt of the task may help, so `TaskConfig(retries=...)` counts for it.
    """

    def __init__(self, text: str, *, reason: str, retryable: bool = False) -> None:
        # By these an exception that crossed from a tool process is known again.
        self.text = text
        self.reason = reason
        self.retryable = retryable
        super().__init__(INTERNAL_ERROR, text, self.facts)

    @property
    def facts(self) -> dict[str, object]:
        """`data` of the error."""
        return {"reason": f"sampling_{self.reason}"} | ({"retryable": True} if self.retryable else {})

    def __str__(self) -> str:
        return self.text
