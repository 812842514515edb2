"""Profiles: what can be said in them, and what is said of mistakes."""

import re

import pytest

from collector.catalog import power
from collector.read.snmp.profile import METRICS, Profile
from collector.read.snmp.profiles import load, rank


def test_example_in_the_documentation_is_one(tmp_path):
    from collector.read.snmp import profile as module

    lines = (module.__doc__ or "").splitlines()
    example = [line[4:] for line in lines if line.startswith("    ") or not line.strip()]
    path = tmp_path / "example.toml"
    path.write_text("\n".join(example).replace('"OID"', '"1.3.6.1.4.1.318.9"'))
    assert load(path).table[0].entity == "outlet"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("outlet.power", "outlet.powr", "no metric outlet.powr"),
        ('unit = "W"', 'unit = "V"', "V does not fit"),
        ('entity = "outlet"', 'entity = "phase"', "not a metric of an phase"),
        ('entity = "outlet"', 'entity = "toaster"', "toaster"),
        ("column = 7", "colum = 7", "colum"),
        ("probe = ", "prob = ", "prob"),
        ('"1.3.6.1.4.1.1"', '"enterprises.1"', "entry"),
        ("[[table]]", "[[table", "mine.toml"),
    ],
)
def test_mistakes_are_named(old, new, message, tmp_path):
    path = tmp_path / "mine.toml"
    right = """
        source = "manual"
        match = { probe = "1.3.6.1.4.1.1.1" }
        info = { vendor = "ACME" }
        [[table]]
        entity = "outlet"
        entry = "1.3.6.1.4.1.1"
        index = "number"
        values = [{ metric = "outlet.power", column = 7, unit = "W" }]
        """
    path.write_text(right)
    assert load(path).name == "mine"
    load.cache_clear()
    path.write_text(right.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(path)
    assert "mine.toml" in str(caught.value)


def test_longest_prefix_of_sys_object_id_wins():
    def profile(name: str, *ids: str, descr: str | None = None) -> Profile:
        return Profile.model_validate(
            {
                "name": name,
                "source": "",
                "info": {"vendor": ""},
                "match": {"sys_object_id": ids, "sys_descr": descr, "probe": "1.3"},
                "table": (),
            }
        )

    short, long = profile("short", "1.3.6.1.4.1.318"), profile("long", "1.3.6.1.4.1.318.1.3")
    words, other = profile("words", "1.9", descr="PDU"), profile("other", "1.3.6.1.4.1.31")
    ranked = rank([other, words, short, long], "1.3.6.1.4.1.318.1.3.4", "a PDU")
    assert [profile.name for profile in ranked] == ["long", "short", "words", "other"]


def test_metrics_of_pdus():
    assert power.OUTLET_POWER in METRICS.values()
    assert power.CPU_ENERGY not in METRICS.values()


MINE = """
    source = "manual"
    match = { probe = "1.3.6.1.4.1.1.1" }
    info = { vendor = "ACME" }
    [[table]]
    entity = "outlet"
    entry = "1.3.6.1.4.1.1"
    index = "number"
    values = [{ metric = "outlet.power", column = 7, unit = "W" }]
    """


def test_like_takes_over_what_it_does_not_say_itself(tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    other = tmp_path / "other.toml"
    other.write_text(
        """
        like = "mine"
        replace = { "1.3.6.1.4.1.1" = "1.3.6.1.4.1.2.5" }
        match = { probe = "1.3.6.1.4.1.2.5.7" }
        info = { vendor = "Other" }
        """
    )
    found = load(other)
    assert (found.name, found.info.vendor, found.source) == ("other", "Other", "manual")
    assert found.match.probes == ("1.3.6.1.4.1.2.5.7",)
    assert load(tmp_path / "mine.toml").columns() == ["1.3.6.1.4.1.1.7"]


def test_like_of_what_there_is_not(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text('like = "nothing"')
    with pytest.raises(ValueError, match="like nothing: there is none, only other"):
        load(path)


def test_a_maker_s_profile_goes_before_a_general_one():
    def profile(name: str, rank: int) -> Profile:
        return Profile.model_validate(
            {
                "name": name,
                "source": "",
                "info": {"vendor": ""},
                "match": {"probe": "1.3", "rank": rank},
                "table": (),
            }
        )

    ranked = rank([profile("general", -1), profile("maker", 0)], "1.3.6.1.4.1.5", "a PDU")
    assert [profile.name for profile in ranked] == ["maker", "general"]
