"""SNMP: sessions, and devices whose families are described by profiles."""
