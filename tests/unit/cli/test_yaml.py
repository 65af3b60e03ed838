"""What is printed as YAML is read back by kubectl's rules as what it was."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.cli._yaml import compose, dump, value_of

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["yes", "012", "1e3", "12:30", "~", "a\r\nb", "a\nb \n\n", " a", "# a", "0o14", ".inf", "<<"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts.filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.just("spec"), values, min_size=1))
def test_what_is_written_is_what_is_read(value: dict[str, object]) -> None:
    """Texts that look like something else are quoted, and no line end becomes another."""
    (node,) = compose(dump(value), "printed")
    assert value_of(node, "printed") == value


def test_it_reads_like_a_manifest() -> None:
    """Blocks for texts of several lines, quotes where they are needed, keys in order."""
    value = {"b": "Be brief.\nBe kind.\n", "a": ["yes", "on time", 12, True, None], "c": {}}
    assert (
        dump(value)
        == """\
a:
- "yes"
- on time
- 12
- true
- null
b: |
  Be brief.
  Be kind.
c: {}
"""
    )
