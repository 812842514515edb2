"""How SNMPv3's user-based security model (RFC 3414) stands in a config."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from collector.read.snmp.session import User
from collector.secret import Secret


class Usm(BaseModel):
    """The protocols and passwords of a user."""

    model_config = ConfigDict(extra="forbid")

    auth_protocol: Literal["MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"] | None = Field(
        default=None, description="Of version 3; none is no authentication."
    )
    auth_password: Secret | None = Field(default=None, description="For auth_protocol.")
    priv_protocol: Literal["DES", "AES", "AES192", "AES256"] | None = Field(
        default=None, description="Of version 3; none is no encryption."
    )
    priv_password: Secret | None = Field(default=None, description="For priv_protocol.")

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if (self.auth_protocol is None) != (self.auth_password is None):
            raise ValueError("auth_protocol and auth_password go together")
        if (self.priv_protocol is None) != (self.priv_password is None):
            raise ValueError("priv_protocol and priv_password go together")
        if self.priv_protocol and not self.auth_protocol:
            raise ValueError("priv_protocol needs auth_protocol")
        return self

    def of(self, name: str) -> User:
        """Return the user of that name with its secrets; may read files."""
        auth = self.auth_password.reveal() if self.auth_password else ""
        priv = self.priv_password.reveal() if self.priv_password else ""
        return User(name, self.auth_protocol, auth, self.priv_protocol, priv)
