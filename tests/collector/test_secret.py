import pytest
from pydantic import BaseModel, ValidationError

from collector.secret import Secret


class Config(BaseModel):
    password: Secret


def test_text_is_revealed_only_on_demand():
    config = Config.model_validate({"password": "hush"})
    assert config.password.reveal() == "hush"
    for shown in (str(config), repr(config), config.model_dump_json(), str(config.model_dump())):
        assert "hush" not in shown


def test_file_is_read_at_each_use(tmp_path):
    path = tmp_path / "secret"
    config = Config.model_validate({"password": {"file": str(path)}})
    path.write_text("one\n")
    assert config.password.reveal() == "one"
    path.write_text(" two ")
    assert config.password.reveal() == " two "
    path.unlink()
    with pytest.raises(OSError, match="secret"):
        config.password.reveal()


def test_environment(monkeypatch):
    config = Config.model_validate({"password": {"env": "W2T_TEST_SECRET"}})
    monkeypatch.setenv("W2T_TEST_SECRET", "hush")
    assert config.password.reveal() == "hush"
    monkeypatch.delenv("W2T_TEST_SECRET")
    with pytest.raises(LookupError, match="W2T_TEST_SECRET"):
        config.password.reveal()


@pytest.mark.parametrize(
    "given", [{}, {"file": "a", "env": "b"}, {"fil": "a"}, 7, {"value": "a", "env": "b"}]
)
def test_exactly_one_source(given):
    with pytest.raises(ValidationError):
        Config.model_validate({"password": given})
