import tomllib

from hypothesis import given
from hypothesis import strategies as st

from collector import toml

TEXT = '''# comment [not.a.table]
top = "a = [b]"

[web]
listen_address = [
  "a",  # ]
  "b",
]
enable = true

[[plugins.vllm]]
target = """
[fake]
x = 1
"""
interval = 1

[[plugins.vllm]]
target = 'two'
[plugins.vllm.inner]
"quoted key".sub = { a = 1, b = [1, 2] }
last = 1
'''


def test_every_key_has_its_line() -> None:
    found = toml.lines(TEXT)
    assert tomllib.loads(TEXT)
    assert found == {
        ("top",): 2,
        ("web",): 4,
        ("web", "listen_address"): 5,
        ("web", "enable"): 9,
        ("plugins", "vllm", 0): 11,
        ("plugins", "vllm", 0, "target"): 12,
        ("plugins", "vllm", 0, "interval"): 16,
        ("plugins", "vllm", 1): 18,
        ("plugins", "vllm", 1, "target"): 19,
        ("plugins", "vllm", 1, "inner"): 20,
        ("plugins", "vllm", 1, "inner", "quoted key"): 21,
        ("plugins", "vllm", 1, "inner", "quoted key", "sub"): 21,
        ("plugins", "vllm", 1, "inner", "last"): 22,
    }


def test_a_key_inside_a_value_has_the_line_of_the_key_that_holds_it() -> None:
    path: toml.Path = ("plugins", "vllm", 1, "inner", "quoted key", "sub", "b")
    assert toml.line(toml.lines(TEXT), path) == 21
    assert toml.line({}, ("no", "such")) == 1


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z]{1,6}", fullmatch=True),
            st.sampled_from(["1", '"x"', "[1,\n 2]", '"""a\n[b]\nc = 1"""', "{ a = [1] }", "'#'"]),
        ),
        unique_by=lambda pair: pair[0],
    )
)
def test_lines_of_generated_files(pairs: list[tuple[str, str]]) -> None:
    text, expected = "", {}
    for key, value in pairs:
        expected[(key,)] = text.count("\n") + 1
        text += f"{key} = {value}  # comment [x]\n"
    assert set(tomllib.loads(text)) == {key for key, _ in pairs}
    assert toml.lines(text) == expected
