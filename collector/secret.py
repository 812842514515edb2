"""Secrets in config: given as they are, by a file or by an environment variable, never printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator


class Secret(BaseModel):
    """A password or key. `"text"`, `{ file = "/path" }` or `{ env = "NAME" }` in the config.

    Text that stands in the config is masked wherever the config is shown. A file and a variable
    are read anew at each use, so that a rotated secret needs no reload.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: SecretStr | None = None
    file: Path | None = None
    env: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _text(cls, given: Any) -> Any:  # noqa: ANN401 - whatever the config holds
        return {"value": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.value is None) + (self.file is None) + (self.env is None) != 2:
            raise ValueError('needs one of "text", { file = "/path" } and { env = "NAME" }')
        return self

    def reveal(self) -> str:
        """Return the secret; the file's last line break is no part of it. Reads the file: blocks.

        Raises:
            OSError: The file cannot be read.
            LookupError: The environment variable is not set.
        """
        if self.value is not None:
            return self.value.get_secret_value()
        if self.file is not None:
            return self.file.read_text().rstrip("\r\n")
        name = self.env or ""
        if name not in os.environ:
            raise LookupError(f"environment variable {name} is not set; it is to hold a secret")
        return os.environ[name]
