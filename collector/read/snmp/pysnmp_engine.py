"""What sessions and receivers by pysnmp have in common; import it where one is opened."""

from __future__ import annotations

from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine

AUTH = {
    None: config.USM_AUTH_NONE,
    "MD5": config.USM_AUTH_HMAC96_MD5,
    "SHA": config.USM_AUTH_HMAC96_SHA,
    "SHA224": config.USM_AUTH_HMAC128_SHA224,
    "SHA256": config.USM_AUTH_HMAC192_SHA256,
    "SHA384": config.USM_AUTH_HMAC256_SHA384,
    "SHA512": config.USM_AUTH_HMAC384_SHA512,
}
PRIV = {
    None: config.USM_PRIV_NONE,
    "DES": config.USM_PRIV_CBC56_DES,
    "AES": config.USM_PRIV_CFB128_AES,
    "AES192": config.USM_PRIV_CFB192_AES_BLUMENTHAL,
    "AES256": config.USM_PRIV_CFB256_AES_BLUMENTHAL,
}
_MIBS = (
    "__PYSNMP-USM-MIB",
    "PYSNMP-SOURCE-MIB",
    "PYSNMP-USM-MIB",
    "SNMP-COMMUNITY-MIB",
    "SNMP-NOTIFICATION-MIB",
    "SNMP-TARGET-MIB",
    "SNMP-USER-BASED-SM-MIB",
    "SNMP-VIEW-BASED-ACM-MIB",
    "SNMPv2-TM",
    "TRANSPORT-ADDRESS-MIB",
)


def load_mibs(engine: SnmpEngine) -> SnmpEngine:
    """Let an engine read all that it would else read while the loop waits; blocks."""
    engine.get_mib_builder().load_modules(*_MIBS)
    return engine
